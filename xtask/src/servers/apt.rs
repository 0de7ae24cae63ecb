//! An apt of our own: it reads another Debian release from the system's mirror and keeps its lists and packages in a folder
//! of ours, so that the system's apt and its packages are not touched.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::sources;
use crate::interrupts::Interrupts;
use crate::process;

/// Keys of the Debian archive, under the names that its releases gave the file.
const KEYRINGS: [&str; 2] = ["/usr/share/keyrings/debian-archive-keyring.gpg", "/usr/share/keyrings/debian-archive-keyring.pgp"];

/// Names another Debian mirror than that of the system's sources.
const MIRROR_VARIABLE: &str = "WEIR_DEBIAN_MIRROR";

/// apt with its own configuration, sources, lists and archives.
pub(super) struct Apt {
    folder: PathBuf,
}

impl Apt {
    /// Sets up apt in `folder` for the Debian release `suite` and reads that release's list of packages.
    ///
    /// # Errors
    ///
    /// The system has no apt, no keys of Debian or no Debian mirror, or the mirror does not answer.
    pub(super) fn open(folder: &Path, suite: &str) -> Result<Self> {
        for program in ["apt-get", "dpkg-deb"] {
            ensure!(process::is_installed(program), "{program} is missing: this works on Debian and its relatives only");
        }
        let keyring = KEYRINGS.into_iter().find(|file| Path::new(file).is_file());
        let keyring =
            keyring.context("the keys of the Debian archive are missing; install the package debian-archive-keyring")?;
        let mirror = debian_mirror()?;
        for part in ["lists/partial", "archives/partial", "empty"] {
            let part = folder.join(part);
            fs::create_dir_all(&part).with_context(|| format!("cannot make {}", part.display()))?;
        }
        let apt = Self { folder: folder.to_owned() };
        apt.write("status", "")?;
        apt.write("debian.list", &format!("deb [signed-by={keyring}] {mirror} {suite} main\n"))?;
        apt.write("apt.conf", &configuration(folder))?;
        process::output(apt.get().arg("update")).with_context(|| {
            format!("cannot read the packages of Debian {suite} (set {MIRROR_VARIABLE} to use another mirror)")
        })?;
        Ok(apt)
    }

    /// Downloads those of `packages` and all that they depend on which `is_wanted` (a filter of package names).
    ///
    /// # Errors
    ///
    /// A package does not exist or cannot be downloaded, or a signal was received.
    pub(super) fn download(
        &self,
        packages: &[&str],
        is_wanted: impl Fn(&str) -> bool,
        interrupts: &Interrupts,
    ) -> Result<Vec<PathBuf>> {
        let listed = process::output(self.get().args(["install", "--yes", "--print-uris"]).args(packages))?;
        let wanted: Vec<&str> = package_names(&listed).filter(|name| is_wanted(name)).collect();
        interrupts.check()?;
        let archives = self.folder.join("archives");
        process::output(self.get().arg("download").args(wanted).current_dir(&archives))?;
        let files = fs::read_dir(&archives).with_context(|| format!("cannot read {}", archives.display()))?;
        let files = files.filter_map(|file| Some(file.ok()?.path())).filter(|file| file.extension().is_some_and(|e| e == "deb"));
        Ok(files.collect())
    }

    fn write(&self, name: &str, text: &str) -> Result<()> {
        let file = self.folder.join(name);
        fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn get(&self) -> Command {
        let mut apt_get = Command::new("apt-get");
        apt_get.env("LC_ALL", "C").arg("--config-file").arg(self.folder.join("apt.conf"));
        apt_get
    }
}

/// The mirror that the user names, else the one that this Debian system uses for itself.
fn debian_mirror() -> Result<String> {
    if let Ok(mirror) = std::env::var(MIRROR_VARIABLE) {
        return Ok(mirror);
    }
    let release = fs::read_to_string("/etc/os-release").context("cannot read /etc/os-release")?;
    let codename = (sources::os_release(&release, "ID") == Some("debian"))
        .then(|| sources::os_release(&release, "VERSION_CODENAME"))
        .flatten()
        .with_context(|| format!("this is not a Debian release; set {MIRROR_VARIABLE} to the address of a Debian mirror"))?;
    let sources = sources::of_this_system();
    let mirror = sources::mirror(&sources, codename).with_context(|| {
        format!("apt's sources name no mirror of Debian {codename}; set {MIRROR_VARIABLE} to the address of one")
    })?;
    Ok(mirror.to_owned())
}

/// What differs from the system's own configuration, which is read before this file and brings proxies and the like.
fn configuration(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        r#"// An empty list of installed packages: dependencies are resolved in full.
Dir::State::status "{folder}/status";
Dir::State::lists "{folder}/lists";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::sourcelist "{folder}/debian.list";
Dir::Etc::sourceparts "{folder}/empty";
Dir::Etc::preferences "{folder}/empty/preferences";
Dir::Etc::preferencesparts "{folder}/empty";
APT::Install-Recommends "false";
APT::Sandbox::User "";
Debug::NoLocking "true";
// Lists that only graphical shops use.
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
// The system's hooks work on the system's folders.
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
"#
    )
}

/// Package names in the answer to `apt-get install --print-uris`: lines of `'uri' name_version_arch.deb size hash`.
fn package_names(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter(|line| line.starts_with('\'')).filter_map(|line| {
        let file = line.split_whitespace().nth(1)?;
        Some(file.split_once('_')?.0)
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{configuration, package_names};

    #[test]
    fn package_names_are_found_among_what_apt_says() {
        let listed = "Reading package lists...\nThe following NEW packages will be installed:\n  libc6\n\
                      'http://m.example/pool/libc6_2.41_amd64.deb' libc6_2.41_amd64.deb 2846580 SHA256:00\n\
                      'http://m.example/p/libllvm19_1%3a19_amd64.deb' libllvm19_1%3a19_amd64.deb 1 SHA256:00\n";
        assert_eq!(package_names(listed).collect::<Vec<_>>(), ["libc6", "libllvm19"]);
    }

    #[test]
    fn no_folder_of_the_system_is_used() {
        let text = configuration(Path::new("/somewhere/apt"));
        for line in text.lines().filter(|line| line.starts_with("Dir::")) {
            assert!(line.contains(" \"/somewhere/apt"), "{line}");
        }
    }
}
