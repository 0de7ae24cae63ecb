//! Tells the sender what became of each item.

use super::problem::{Document, Problem, problem_json};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;

/// What became of one item.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Accepted,
    Skipped,
    Rejected,
}

impl Status {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Skipped => "skipped",
            Self::Rejected => "rejected",
        }
    }
}

#[derive(Serialize)]
struct Item {
    index: usize,
    status: Status,
    /// It is in the log, and will be set aside or thinned out.
    #[serde(skip_serializing_if = "is_false")]
    over_quota: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<Document>,
}

/// What became of a batch, in its order.
#[derive(Serialize, Default)]
pub(super) struct Batch {
    accepted: usize,
    /// How many of the accepted are over a quota.
    #[serde(skip_serializing_if = "is_zero")]
    over_quota: usize,
    skipped: usize,
    rejected: usize,
    items: Vec<Item>,
}

/// The answer to a batch of which nothing can be used: a problem with the items as an extension.
#[derive(Serialize)]
struct AllRejected {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'static str,
    code: &'static str,
    #[serde(flatten)]
    batch: Batch,
}

impl Batch {
    pub(super) fn push(&mut self, outcome: Result<Status, Problem>) {
        let (status, problem) = match outcome {
            Ok(status) => (status, None),
            Err(problem) => (Status::Rejected, Some(problem.document())),
        };
        *match status {
            Status::Accepted => &mut self.accepted,
            Status::Skipped => &mut self.skipped,
            Status::Rejected => &mut self.rejected,
        } += 1;
        self.items.push(Item { index: self.items.len(), status, over_quota: false, problem });
    }

    /// Marks all accepted items but the first so many as over a quota.
    pub(super) fn mark_over_quota(&mut self, within: usize) {
        self.over_quota = self.accepted.saturating_sub(within);
        let accepted = self.items.iter_mut().filter(|item| item.status == Status::Accepted);
        accepted.skip(within).for_each(|item| item.over_quota = true);
    }

    /// How many items are over a quota.
    pub(super) fn over_quota(&self) -> usize {
        self.over_quota
    }

    /// How many items ended in each way.
    pub(super) fn counts(&self) -> [(Status, usize); 3] {
        [(Status::Accepted, self.accepted), (Status::Skipped, self.skipped), (Status::Rejected, self.rejected)]
    }
}

impl IntoResponse for Batch {
    fn into_response(self) -> Response {
        if self.rejected == 0 || self.rejected < self.items.len() {
            return axum::Json(self).into_response();
        }
        let status = StatusCode::UNPROCESSABLE_ENTITY;
        let document = AllRejected {
            kind: "urn:weir:problem:all_rejected",
            title: "All items rejected",
            status: status.as_u16(),
            detail: "no item of the batch can be used: each item's problem says why",
            code: "all_rejected",
            batch: self,
        };
        problem_json(status, &document)
    }
}

/// The answer to one item.
#[derive(Serialize)]
pub(super) struct Single {
    pub(super) status: Status,
    /// It is in the log, and will be set aside or thinned out.
    #[serde(skip_serializing_if = "is_false")]
    pub(super) over_quota: bool,
}

impl IntoResponse for Single {
    fn into_response(self) -> Response {
        axum::Json(self).into_response()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_false(flag: &bool) -> bool {
    !flag
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_zero(count: &usize) -> bool {
    *count == 0
}
