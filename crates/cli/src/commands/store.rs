//! `raddle store backup|restore`: the control plane's state as one file.
use crate::Done;
use crate::exit::{Exit, Failure};
use crate::output::progress;
use clap::{Args, Subcommand};
use raddle_store::{
    BackupError, Embedded, EmbeddedOptions, Etcd, EtcdOptions, EtcdTls, Restore, Store, StoreError, export,
    import,
};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// The environment variable with etcd's password: arguments are seen by everybody on the machine.
const PASSWORD: &str = "RADDLE_ETCD_PASSWORD";

/// Back up and restore the control plane's state
#[derive(Debug, Args)]
pub(crate) struct StoreCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Backup(BackupArgs),
    Restore(RestoreArgs),
}

/// Write everything that is in a store into one file
///
/// It is of one moment, also while control planes go on writing to an etcd; a --store FILE must not be in use. What
/// lives only as long as a sidecar or a replica (publications, leaders) is left out: it comes again by itself. The file
/// is for your eyes only: it holds the (sealed) key of the certificate authority and hashes of tokens.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle store backup --store /var/lib/raddle/control.db mesh.backup
  raddle store backup --etcd http://10.0.0.1:2379,http://10.0.0.2:2379 mesh.backup")]
struct BackupArgs {
    /// The file to write
    #[arg(value_name = "FILE")]
    backup: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    #[command(flatten)]
    place: Place,
}

/// Put a backup into a store
///
/// The backup is read and checked whole before anything is changed. Stop the control planes first: they would see
/// the state change piece by piece.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  raddle store restore --store /var/lib/raddle/control.db mesh.backup
  raddle store restore --etcd http://10.0.0.1:2379 --overwrite mesh.backup    # also moves from a file to etcd")]
struct RestoreArgs {
    /// The backup
    #[arg(value_name = "FILE")]
    backup: PathBuf,
    /// The store may hold something: afterwards it holds what the backup holds, and nothing else
    #[arg(long)]
    overwrite: bool,
    #[command(flatten)]
    place: Place,
}

/// Where a store is.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// File of an embedded store
    #[arg(long, value_name = "FILE", conflicts_with = "etcd", required_unless_present = "etcd")]
    store: Option<PathBuf>,
    /// Members of an etcd cluster
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    etcd: Vec<String>,
    /// What all keys in etcd begin with, ending in a slash
    #[arg(long, value_name = "PREFIX", default_value = "", requires = "etcd", hide_default_value = true)]
    etcd_prefix: String,
    /// Certificate of the authority that signed etcd's (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd")]
    etcd_ca: Option<PathBuf>,
    /// Our certificate for etcd (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_key", requires = "etcd_ca")]
    etcd_cert: Option<PathBuf>,
    /// Its key (PEM)
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    etcd_key: Option<PathBuf>,
    /// User of etcd; the password is taken from RADDLE_ETCD_PASSWORD
    #[arg(long, value_name = "NAME", requires = "etcd")]
    etcd_user: Option<String>,
}

impl Place {
    /// Opens the store.
    async fn open(&self) -> Result<Box<dyn Store>, Failure> {
        match &self.store {
            Some(file) => Ok(Box::new(Embedded::open(file, EmbeddedOptions::default()).map_err(unopened)?)),
            None => Ok(Box::new(Etcd::connect(self.etcd()?).await.map_err(unopened)?)),
        }
    }

    /// How the etcd is reached.
    fn etcd(&self) -> Result<EtcdOptions, Failure> {
        let mut options = EtcdOptions::new(self.etcd.clone());
        options.prefix.clone_from(&self.etcd_prefix);
        if let Some(authority) = &self.etcd_ca {
            let identity = match (&self.etcd_cert, &self.etcd_key) {
                (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
                _ => None,
            };
            options.tls = Some(EtcdTls { authority: read(authority)?, identity, server_name: None });
        }
        if let Some(name) = &self.etcd_user {
            let password = std::env::var(PASSWORD)
                .map_err(|_| Failure::usage(format!("--etcd-user {name} needs a password in {PASSWORD}")))?;
            options.user = Some((name.clone(), password));
        }
        Ok(options)
    }
}

pub(crate) fn run(command: &StoreCommand) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|e| Failure::new(format!("no runtime: {e}")))?;
    runtime.block_on(async {
        match &command.action {
            Action::Backup(args) => backup(args).await,
            Action::Restore(args) => restore(args).await,
        }
    })
}

async fn backup(args: &BackupArgs) -> Done {
    if let Some(file) = args.place.store.as_deref().filter(|file| !file.exists()) {
        return Err(Failure::new(format!("{}: there is no such store", file.display())));
    }
    let target = args.backup.as_path();
    if target.exists() && !args.force {
        return Err(Failure::new(format!(
            "{} exists already; give another name, or --force",
            target.display()
        )));
    }
    let store = args.place.open().await?;
    let wrong = |e: &dyn std::fmt::Display| Failure::new(format!("{}: {e}", target.display()));
    // Whole or not at all, and from the begin readable by its owner alone.
    let folder = target.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(|e| wrong(&e))?;
    let summary = export(store.as_ref(), BufWriter::new(file.as_file())).await.map_err(failed)?;
    file.as_file().sync_all().map_err(|e| wrong(&e))?;
    let kept = if args.force { file.persist(target) } else { file.persist_noclobber(target) };
    kept.map_err(|e| wrong(&e.error))?;
    progress(&format!(
        "{} entries of revision {} of {} are in {}; {} under leases left out",
        summary.entries,
        summary.revision.0,
        store.name(),
        target.display(),
        summary.leased
    ));
    Ok(Exit::Ok)
}

async fn restore(args: &RestoreArgs) -> Done {
    let file =
        File::open(&args.backup).map_err(|e| Failure::new(format!("{}: {e}", args.backup.display())))?;
    let store = args.place.open().await?;
    let how = if args.overwrite { Restore::Overwrite } else { Restore::IfEmpty };
    let summary = import(store.as_ref(), file, how).await.map_err(failed)?;
    progress(&format!(
        "{} now holds the {} entries of {}: {} written, {} removed",
        store.name(),
        summary.entries,
        args.backup.display(),
        summary.written,
        summary.removed
    ));
    Ok(Exit::Ok)
}

fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    std::fs::read(file).map_err(|e| Failure::new(format!("{}: {e}", file.display())))
}

fn unopened(why: StoreError) -> Failure {
    match why {
        StoreError::Unavailable(_) => Failure::unreachable(why.to_string()),
        _ => Failure::new(why.to_string()),
    }
}

fn failed(why: BackupError) -> Failure {
    match why {
        BackupError::Store(why) => unopened(why),
        BackupError::NotEmpty(..) => Failure::new(format!("{why}; --overwrite replaces them")),
        _ => Failure::new(why.to_string()),
    }
}
