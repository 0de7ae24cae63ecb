//! The account that PostgreSQL runs as: the caller, or another one where the caller is root, which PostgreSQL refuses.

use std::fs;
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};

/// Who owns a server's files and processes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// The account that runs xtask.
    Caller,
    /// An account without privileges, chosen because the caller is root.
    Unprivileged { uid: u32, gid: u32 },
}

impl Account {
    /// The caller, unless that is root; then `postgres` where it exists, else `nobody`.
    ///
    /// # Errors
    ///
    /// The caller is root and the system has neither account.
    pub(super) fn find() -> Result<Self> {
        if !rustix::process::geteuid().is_root() {
            return Ok(Self::Caller);
        }
        let passwd = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
        ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| unprivileged(&passwd, name))
            .context("PostgreSQL does not run as root, and there is no account `postgres` or `nobody` to run it as; run xtask as another user")
    }

    /// A command that will run as this account, with an environment of its own, so that no variable of the caller's changes
    /// what the server does.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("LC_ALL", "C").env("TZ", "UTC").current_dir("/");
        if let Self::Unprivileged { uid, gid } = self {
            // The standard library drops root's other groups along with the uid.
            command.uid(uid).gid(gid);
        }
        command
    }

    /// Gives a file or folder to this account.
    ///
    /// # Errors
    ///
    /// The system refuses.
    pub(super) fn own(self, path: &Path) -> Result<()> {
        match self {
            Self::Caller => Ok(()),
            Self::Unprivileged { uid, gid } => {
                chown(path, Some(uid), Some(gid)).with_context(|| format!("cannot give {} to uid {uid}", path.display()))
            }
        }
    }
}

fn unprivileged(passwd: &str, name: &str) -> Option<Account> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        if fields.next() != Some(name) {
            return None;
        }
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        (uid != 0).then_some(Account::Unprivileged { uid, gid })
    })
}

#[cfg(test)]
mod tests {
    use super::{Account, unprivileged};

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n\
                          toor:x:0:0::/:/bin/sh\nbroken:x:many:1::/:/bin/sh\nnobody:x:65534:65533::/:/bin/false\n";

    #[track_caller]
    fn check(name: &str, expected: Option<(u32, u32)>) {
        assert_eq!(unprivileged(PASSWD, name), expected.map(|(uid, gid)| Account::Unprivileged { uid, gid }), "{name}");
    }

    #[test]
    fn accounts_are_read_from_passwd() {
        check("postgres", Some((101, 104)));
        check("nobody", Some((65534, 65533)));
        check("post", None);
        check("toor", None);
        check("broken", None);
    }
}
