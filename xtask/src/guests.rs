//! Builds the wasm guests that are committed in `decoders/built`, and checks that they are what their sources build.
//!
//! The bytes depend on the versions of rustc and clang, so that a check by building would fail on most machines. Each built
//! file therefore holds, in a custom section, the SHA-256 of all that it was built from; checking needs no wasm target.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use sha2::{Digest, Sha256};

use crate::insertions::Insertions;
use crate::workspace::Workspace;

/// What guests are built for.
const TARGET: &str = "wasm32-unknown-unknown";
/// The custom section that holds the hash.
const SECTION: &str = "weir-source";

/// A guest: where its crate is, what else it is made of, and the file that it is built to.
struct Guest {
    folder: &'static str,
    also: &'static [&'static str],
    artifact: &'static str,
    built: &'static str,
    /// What goes into the C of its crates.
    insertions: Option<Insertions>,
}

/// Where QuickJS is given what runs simple instructions, and what reads plain objects.
const QUICKJS: Insertions = Insertions {
    into: "rquickjs-sys/quickjs/quickjs.c",
    places: &[
        (
            "/* argv[] is modified if (flags & JS_CALL_FLAG_COPY_ARGV) = 0. */\nstatic JSValue JS_CallInternal(",
            "quickjs/simple.h",
        ),
        ("static inline __exception int js_poll_interrupts(JSContext *ctx)\n", "quickjs/plain.h"),
        ("        SWITCH(pc) {\n", "quickjs/enter.h"),
    ],
};

const GUESTS: [Guest; 2] = [
    Guest {
        folder: "js-engine",
        also: &[".cargo"],
        artifact: "js_engine.wasm",
        built: "js-engine.wasm",
        insertions: Some(QUICKJS),
    },
    Guest {
        folder: "examples/milesight-am307",
        also: &[".cargo", "kit"],
        artifact: "milesight_am307.wasm",
        built: "milesight-am307.wasm",
        insertions: None,
    },
];

/// How to run `cargo xtask guests`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Build nothing: only check that the committed files are what their sources build.
    #[arg(long)]
    check: bool,
}

/// Builds or checks all guests.
///
/// # Errors
///
/// A guest cannot be built (it needs the target wasm32-unknown-unknown and clang), or is out of date.
pub(crate) fn run(options: &Options, workspace: &Workspace) -> Result<ExitCode> {
    let decoders = workspace.root.join("decoders");
    if !options.check {
        for guest in &GUESTS {
            build(&decoders, guest, workspace)?;
        }
    }
    check(&workspace.root)?;
    Ok(ExitCode::SUCCESS)
}

/// Checks that the committed guests are what their sources build.
///
/// # Errors
///
/// One is not; the text says what to do.
pub(crate) fn check(root: &Path) -> Result<()> {
    let decoders = root.join("decoders");
    for guest in &GUESTS {
        let path = decoders.join("built").join(guest.built);
        let wasm = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let holds =
            section(&wasm).with_context(|| format!("{} has no section {SECTION}: run `cargo xtask guests`", path.display()))?;
        ensure!(
            holds == source_hash(&decoders, guest)?,
            "{} was built from other sources: run `cargo xtask guests`",
            path.display()
        );
    }
    Ok(())
}

fn build(decoders: &Path, guest: &Guest, workspace: &Workspace) -> Result<()> {
    let target = workspace.target()?.join("guests");
    let hash = source_hash(decoders, guest)?;
    let hidden = hidden_folders(decoders, &target)?;
    let rust: Vec<_> = hidden.iter().map(|(from, to)| format!("\"--remap-path-prefix={from}={to}\"")).collect();
    let mut c: Vec<_> = hidden.iter().map(|(from, to)| format!("-ffile-prefix-map={from}={to}")).collect();
    let cargo = || Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let mut command = cargo();
    command.args(["build", "--release", "--locked"]);
    if let Some(insertions) = &guest.insertions {
        let crates = target.join("crates");
        insertions.copy_crates(&decoders.join(guest.folder), &crates, &mut cargo())?;
        command.args(["--config", "source.crates-io.replace-with=\"guests\""]);
        command.args(["--config", &format!("source.guests.directory=\"{}\"", crates.display())]);
        // Cargo does not look whether copied crates have changed, but whether this has.
        c.push(format!("-DWEIR_SOURCES=0x{:02x}{:02x}{:02x}{:02x}", hash[0], hash[1], hash[2], hash[3]));
    }
    let status = command
        // Joined to the flags of `.cargo/config.toml`, which a variable of the environment would replace.
        .args(["--config", &format!("target.{TARGET}.rustflags=[{}]", rust.join(", "))])
        .current_dir(decoders.join(guest.folder))
        .env("CARGO_TARGET_DIR", &target)
        .env(format!("CFLAGS_{}", TARGET.replace('-', "_")), c.join(" "))
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("{} cannot be built: it needs clang and `rustup target add wasm32-unknown-unknown`", guest.folder);
    }
    let artifact = target.join(TARGET).join("release").join(guest.artifact);
    let mut wasm = fs::read(&artifact).with_context(|| format!("cannot read {}", artifact.display()))?;
    append_section(&mut wasm, &hash);
    let built = decoders.join("built").join(guest.built);
    fs::write(&built, wasm).with_context(|| format!("cannot write {}", built.display()))
}

/// The folders of this machine that messages within a guest would name, each with the name that it gets instead:
/// the bytes do not depend on where they were built, and tell nothing of it.
fn hidden_folders(decoders: &Path, target: &Path) -> Result<Vec<(String, &'static str)>> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let cargo = std::env::var_os("CARGO_HOME").map(PathBuf::from).or_else(|| home.map(|home| home.join(".cargo")));
    let cargo = cargo.context("neither CARGO_HOME nor HOME is set")?;
    let folders = [(cargo.as_path(), "/cargo"), (target, "/target"), (decoders, "/decoders")];
    let hidden = folders.map(|(folder, name)| {
        let folder = folder.to_str().with_context(|| format!("{} is no UTF-8", folder.display()))?;
        ensure!(!folder.contains([' ', '"', '\\']), "{folder} holds a character that compilers' flags cannot: build elsewhere");
        Ok((folder.to_owned(), name))
    });
    hidden.into_iter().collect()
}

/// Hashes the names and contents of all files that a guest is built from.
fn source_hash(decoders: &Path, guest: &Guest) -> Result<[u8; 32]> {
    let mut files = Vec::new();
    for folder in guest.also.iter().chain([&guest.folder]) {
        collect(&decoders.join(folder), &mut files)?;
    }
    files.sort();
    let mut hasher = Sha256::new();
    for (place, file) in guest.insertions.iter().flat_map(|insertions| insertions.places) {
        hasher.update(format!("{place:?} {file:?}"));
    }
    for file in files {
        let content = fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
        let name = file.strip_prefix(decoders).context("guests lie in decoders/")?.to_string_lossy().into_owned();
        for part in [name.as_bytes(), &content] {
            hasher.update((part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    Ok(hasher.finalize().into())
}

/// Collects the files that a build reads; the kit has no lock file of its own that would matter.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name != "target") {
                collect(&path, files)?;
            }
        } else if path
            .extension()
            .is_some_and(|extension| ["rs", "js", "toml", "lock", "h"].iter().any(|read| extension == *read))
        {
            files.push(path);
        }
    }
    Ok(())
}

fn append_section(wasm: &mut Vec<u8>, hash: &[u8; 32]) {
    wasm.push(0);
    wasm.push((1 + SECTION.len() + hash.len()) as u8);
    wasm.push(SECTION.len() as u8);
    wasm.extend_from_slice(SECTION.as_bytes());
    wasm.extend_from_slice(hash);
}

/// Gives what the custom section at the end of a built file holds.
fn section(wasm: &[u8]) -> Option<[u8; 32]> {
    let (rest, hash) = wasm.split_last_chunk::<32>()?;
    rest.ends_with(SECTION.as_bytes()).then_some(*hash)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_guests_are_what_their_sources_build() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        check(&root).unwrap();
    }

    #[test]
    fn the_committed_guests_name_no_folder_of_the_machine_that_built_them() {
        let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../decoders/built");
        for guest in &GUESTS {
            let wasm = fs::read(built.join(guest.built)).unwrap();
            for folder in ["/root/", "/home/", "/Users/", ".cargo/registry"] {
                let found = wasm.windows(folder.len()).position(|bytes| bytes == folder.as_bytes());
                assert_eq!(found, None, "{} holds {folder:?}: run `cargo xtask guests`", guest.built);
            }
        }
    }

    #[test]
    fn a_section_is_found_again() {
        let mut wasm = b"\0asm\x01\0\0\0".to_vec();
        assert_eq!(section(&wasm), None);
        append_section(&mut wasm, &[7; 32]);
        assert_eq!(section(&wasm), Some([7; 32]));
        assert_eq!(usize::from(wasm[9]), wasm.len() - 10, "the section's length");
    }
}
