//! Where things lie: the workspace, its build folder, and the private folder `.weir` of the development servers.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use crate::process;

/// Folders of this workspace.
pub(crate) struct Workspace {
    /// Folder of the workspace's `Cargo.toml`.
    pub(crate) root: PathBuf,
    /// Programs and data of the development servers; the account that they run as can reach it.
    pub(crate) private: PathBuf,
    /// The program and its first arguments.
    cargo: Vec<OsString>,
}

impl Workspace {
    /// Finds the workspace that xtask was built from and makes its private folder.
    ///
    /// # Errors
    ///
    /// The workspace has been moved since xtask was built, or the private folder cannot be made.
    pub(crate) fn find() -> Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .canonicalize()
            .context("the workspace has moved since xtask was built; run it again through `cargo xtask`")?;
        let private = private_folder(&root, rustix::process::geteuid().is_root());
        fs::create_dir_all(&private).with_context(|| format!("cannot make {}", private.display()))?;
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        Ok(Self { root, private, cargo: vec![cargo] })
    }

    /// The same workspace with another command in cargo's place.
    #[cfg(test)]
    pub(crate) fn with_cargo(self, command: &[&str]) -> Self {
        Self { cargo: command.iter().map(OsString::from).collect(), ..self }
    }

    /// The cargo that runs xtask, in the root folder.
    pub(crate) fn cargo(&self) -> Command {
        let mut cargo = Command::new(&self.cargo[0]);
        cargo.args(&self.cargo[1..]).current_dir(&self.root);
        cargo
    }

    /// The folder that cargo builds into, as `CARGO_TARGET_DIR` and the configuration say.
    ///
    /// # Errors
    ///
    /// `cargo metadata` fails.
    pub(crate) fn target(&self) -> Result<PathBuf> {
        let metadata = process::output(self.cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
        let metadata: serde_json::Value = serde_json::from_str(&metadata).context("cannot read cargo's metadata")?;
        let target = metadata["target_directory"].as_str().context("cargo's metadata has no target_directory")?;
        Ok(PathBuf::from(target))
    }
}

/// `.weir` in the workspace; or, where xtask runs as root in a folder closed to others (as `/root` is), one in `/var/cache`,
/// because PostgreSQL refuses to run as root and another account could not reach the workspace.
fn private_folder(root: &Path, is_root: bool) -> PathBuf {
    if !is_root || root.ancestors().all(open_to_others) {
        return root.join(".weir");
    }
    let name = root.to_string_lossy().trim_start_matches('/').replace('/', "-");
    Path::new("/var/cache/weir").join(name)
}

fn open_to_others(folder: &Path) -> bool {
    const SEARCH_BY_OTHERS: u32 = 0o001;
    fs::metadata(folder).is_ok_and(|folder| folder.permissions().mode() & SEARCH_BY_OTHERS != 0)
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::Path;

    use super::{Workspace, private_folder};

    #[test]
    fn root_avoids_a_workspace_that_others_cannot_reach() {
        let closed = std::env::temp_dir().join(format!("weir-xtask-closed-{}", std::process::id()));
        let root = closed.join("weir");
        fs::create_dir_all(&root).unwrap();
        fs::set_permissions(&closed, Permissions::from_mode(0o700)).unwrap();
        let as_root = private_folder(&root, true);
        let as_user = private_folder(&root, false);
        fs::remove_dir_all(&closed).unwrap();
        assert!(as_root.starts_with("/var/cache/weir"), "{}", as_root.display());
        assert_eq!(as_user, root.join(".weir"));
        assert_eq!(private_folder(Path::new("/usr/share"), true), Path::new("/usr/share/.weir"));
    }

    #[test]
    fn the_workspace_is_the_one_with_xtask() {
        assert!(Workspace::find().unwrap().root.join("xtask/Cargo.toml").is_file());
    }
}
