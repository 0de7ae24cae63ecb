//! Owns what many series have in common: their names, their units, and what is in effect for them. Invariant: the same
//! terms are kept once, for no longer than about as long as a series has them.

use super::history::Rule;
use crate::element::Context;
use crate::model::{ClassNo, FieldName, ValueKind};
use hashbrown::HashSet;
use std::hash::{Hash, Hasher};
use std::rc::Rc;
use std::sync::Arc;

/// What a series has in common with those of other devices.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) field: FieldName,
    pub(crate) unit: Option<Arc<str>>,
    pub(crate) kind: ValueKind,
    /// The class that the catalogue row names.
    pub(crate) class: ClassNo,
    /// When a measurement is stored. None: the template names another unit for the field, so nothing goes into this
    /// series; or nobody has looked yet.
    pub(crate) rule: Option<Rule>,
}

impl Terms {
    /// The terms of a series that begins now.
    pub(crate) fn first(field: FieldName, kind: ValueKind, context: &Context) -> Self {
        let unit = context.template.fields.get(&field).and_then(|spec| spec.unit.as_deref()).map(Into::into);
        Self { field, unit, kind, class: context.tenant.policy.class, rule: None }.under(context)
    }

    /// Gives the terms as they are under what is in effect now; the class stays.
    pub(crate) fn under(&self, context: &Context) -> Self {
        let spec = context.template.fields.get(&self.field);
        let policy = &context.tenant.policy;
        let is_current = self.unit.as_deref() == spec.and_then(|spec| spec.unit.as_deref());
        let rule = is_current.then(|| Rule {
            deadband: spec.filter(|_| self.kind == ValueKind::Number).map_or(0.0, |spec| spec.deadband()),
            heartbeat_us: spec.and_then(|spec| spec.heartbeat_us).unwrap_or(policy.heartbeat_us),
            horizon_us: policy.lateness_horizon_us.max(0),
        });
        Self { rule, ..self.clone() }
    }

    /// What tells terms apart. Names by their address: that is how they are compared, and two decoders that give the
    /// same name do not share it.
    fn key(&self) -> impl Eq + Hash {
        let rule = self.rule.map(|rule| (rule.deadband.to_bits(), rule.heartbeat_us, rule.horizon_us));
        (Arc::as_ptr(&self.field).addr(), self.unit.as_deref(), self.kind, self.class, rule)
    }
}

impl PartialEq for Terms {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Terms {}

impl Hash for Terms {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

/// The terms of a partition's series, and the names that did not come from a decoder.
///
/// State: about 120 bytes for each that is in use, and at most as many again that are not.
#[derive(Debug, Default)]
pub(crate) struct SharedTerms {
    terms: HashSet<Rc<Terms>>,
    names: HashSet<FieldName>,
    /// With so many, those that nobody has any more are dropped.
    swept_at: usize,
}

const SWEPT_AT_MIN: usize = 64;

impl SharedTerms {
    /// Gives the one copy of these terms.
    pub(crate) fn share(&mut self, terms: Terms) -> Rc<Terms> {
        if let Some(known) = self.terms.get(&terms) {
            return known.clone();
        }
        if self.terms.len() >= self.swept_at {
            self.terms.retain(|terms| Rc::strong_count(terms) > 1);
            self.names.retain(|name| Arc::strong_count(name) > 1);
            self.swept_at = (2 * self.terms.len()).max(SWEPT_AT_MIN);
        }
        let terms = Rc::new(terms);
        self.terms.insert(terms.clone());
        terms
    }

    /// Gives the one copy of a name that was read from somewhere.
    pub(crate) fn name(&mut self, name: FieldName) -> FieldName {
        self.names.get_or_insert_with(&*name, |_| name.clone()).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_kept_once_and_not_longer_than_they_are_needed() {
        let mut shared = SharedTerms::default();
        let terms = |field: &FieldName, class| Terms {
            field: field.clone(),
            unit: Some("°C".into()),
            kind: ValueKind::Number,
            class: ClassNo(class),
            rule: None,
        };
        let name = shared.name("temperature".into());
        assert!(Arc::ptr_eq(&name, &shared.name("temperature".into())));
        let kept = shared.share(terms(&name, 0));
        assert!(Rc::ptr_eq(&kept, &shared.share(terms(&name, 0))));
        assert!(!Rc::ptr_eq(&kept, &shared.share(terms(&"temperature".into(), 0))), "another decoder's name");
        for class in 0..10_000 {
            let passing = shared.name(format!("field {class}").into());
            assert_eq!(shared.share(terms(&passing, class)).class, ClassNo(class));
        }
        assert!(shared.terms.len() <= SWEPT_AT_MIN && shared.names.len() <= SWEPT_AT_MIN + 1);
        assert!(Rc::ptr_eq(&kept, &shared.share(terms(&name, 0))));
    }
}
