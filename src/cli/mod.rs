//! The `weir` command: one file per command.

mod decode;
mod demo;
mod fleet;
mod interrupts;
mod load;
mod log;
mod output;
mod private;
mod quarantine;
mod quota;
mod registry;
mod serve;
mod status;
mod told;

pub use told::told;

use crate::config::{Config, Local};
use crate::store::Store;
use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

/// Takes in the uplinks of IoT fleets, decodes them, and keeps in TimescaleDB exactly what changed.
#[derive(Parser, Debug)]
#[command(name = "weir", version, arg_required_else_help = true)]
pub struct Cli {
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    command: Command,
}

/// Where the settings come from.
#[derive(Args, Debug, Clone)]
struct Settings {
    /// Settings file (TOML). Settings can also be given as WEIR_<SECTION>_<KEY>.
    #[arg(long, global = true, env = "WEIR_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// The database, over the settings: postgres://user:password@host:port/database
    #[arg(long, global = true, value_name = "URL")]
    database_url: Option<String>,
    /// The data directory, over the settings.
    #[arg(long, global = true, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Settings {
    fn load(&self) -> anyhow::Result<Config> {
        Ok(Config::load(self.config.as_deref(), self.environment())?)
    }

    /// The settings of commands that do without the database.
    fn load_local(&self) -> anyhow::Result<Local> {
        Ok(Local::load(self.config.as_deref(), self.environment())?)
    }

    /// The environment, with the command line on top. What is not Unicode can be no setting of ours.
    fn environment(&self) -> impl Iterator<Item = (String, String)> {
        let of_process =
            std::env::vars_os().filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)));
        let url = self.database_url.clone().map(|url| ("WEIR_DATABASE_URL".to_owned(), url));
        let dir = self.data_dir.as_ref().map(|dir| ("WEIR_LOG_DIR".to_owned(), dir.display().to_string()));
        of_process.chain(url).chain(dir)
    }

    async fn client(&self) -> anyhow::Result<tokio_postgres::Client> {
        Ok(self.store().await?.client().await?)
    }

    /// A database that has the schema.
    async fn store(&self) -> anyhow::Result<Store> {
        let store = Store::connect(self.load()?.database.store()).await?;
        // Tells of a database without the schema in words of ours.
        store.partitions().await?;
        Ok(store)
    }
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the daemon.
    Serve(serve::Serve),
    /// Run the daemon with a simulated fleet, and show what it does.
    Demo(demo::Demo),
    /// Measure the daemon by a case, with what the database could do at best.
    Load(load::Load),
    /// Bring the database's schema up to date.
    Migrate,
    /// Show a running daemon's state.
    Status(status::Status),
    /// Retention classes: how long what is kept, in tables of their own.
    #[command(subcommand)]
    Class(registry::Class),
    /// Tenants: customers who do not see each other.
    #[command(subcommand)]
    Tenant(registry::Tenant),
    /// Templates: device models with decoder, fields and units.
    #[command(subcommand)]
    Template(registry::Template),
    /// Decoders: JavaScript sources and wasm modules, by their content.
    #[command(subcommand)]
    Decoder(registry::Decoder),
    /// Devices.
    #[command(subcommand)]
    Device(registry::Device),
    /// Tokens: who may send uplinks and query.
    #[command(subcommand)]
    Token(registry::Token),
    /// Decode one payload and show what would be stored.
    Decode(decode::Decode),
    /// What was set aside: look at it, try it again, drop it.
    #[command(subcommand)]
    Quarantine(quarantine::Quarantine),
    /// The local log.
    #[command(subcommand)]
    Log(log::Log),
}

/// Runs the command line.
///
/// Errors: what went wrong, with what to do next.
pub fn run() -> anyhow::Result<()> {
    let cli = Cli::parse();
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    if matches!(cli.command, Command::Serve(_)) {
        runtime.worker_threads(task_threads());
    }
    let runtime = runtime.enable_all().thread_name("weir-tokio").build().context("starting threads")?;
    let settings = cli.settings;
    match cli.command {
        Command::Serve(serve) => runtime.block_on(serve.run(&settings)),
        Command::Demo(demo) => runtime.block_on(demo.run(&settings)),
        Command::Load(load) => runtime.block_on(load.run(&settings)),
        Command::Migrate => runtime.block_on(migrate(&settings)),
        Command::Status(status) => runtime.block_on(status.run(&settings)),
        Command::Class(class) => runtime.block_on(class.run(&settings)),
        Command::Tenant(tenant) => runtime.block_on(tenant.run(&settings)),
        Command::Template(template) => runtime.block_on(template.run(&settings)),
        Command::Decoder(decoder) => runtime.block_on(decoder.run(&settings)),
        Command::Device(device) => runtime.block_on(device.run(&settings)),
        Command::Token(token) => runtime.block_on(token.run(&settings)),
        Command::Decode(decode) => decode.run(),
        Command::Quarantine(quarantine) => runtime.block_on(quarantine.run(&settings)),
        Command::Log(log) => runtime.block_on(log.run(&settings)),
    }
}

/// Threads of the daemon for all that waits: requests, answers, the database. Half of the processors, for the graph, the
/// log and PostgreSQL want the rest. Threads wake each other for every uplink that they hear: with one on two processors
/// 500 webhooks a second take an eighth less of them.
fn task_threads() -> usize {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    (processors / 2).max(1)
}

async fn migrate(settings: &Settings) -> anyhow::Result<()> {
    let config = settings.load()?;
    let mut store = Store::connect(config.database.store()).await?;
    store.migrate(config.log.partitions).await?;
    println!("The schema is up to date ({}).", store.level());
    Ok(())
}
