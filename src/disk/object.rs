//! An object store (S3 and what speaks like it): blocks and manifest in a bucket, the log in a folder of this machine; or a
//! backup, all of it in the bucket.
//!
//! Of data, names of the log and temporary files are local; everything else is an object. A block is written to a local file,
//! and its rename to the final name is the upload; so it is whole in the bucket, or not there. What was written to the log is
//! as durable as this machine's disk until then. Of a backup, nothing is local: its objects are copied or replaced as a whole.
//! Invariant: the manifest is only ever replaced by a put on condition of the one that this process read at its start or
//! has put itself, so that of two writers one fails. A put without an answer is looked up before it is called failed. A
//! removed object stays for a while, because other servers may still read it.
//! Not here: who may write (`db`). Async ends in this file: its runtime has its own threads, and callers block.

mod reader; // an object's bytes, through a cache

use std::collections::HashMap;
use std::collections::hash_map::{DefaultHasher, RandomState};
use std::hash::{BuildHasher, Hash, Hasher};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use crossbeam_channel::Receiver;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as ObjectPath;
use object_store::{
    BackoffConfig, ClientOptions, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt,
    PutMode, PutPayload, RetryConfig, UpdateVersion,
};
use parking_lot::Mutex;
use storage_format::manifest::{LOG_FOLDER, WriterEntry};
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

use crate::config::{Config, S3Location};
use crate::disk::object::reader::{Cache, Reader};
use crate::disk::{Disk, LocalDisk, ReadFile, TEMPORARY, WriteFile};
use crate::error::{Error, Kind, Result};
use crate::metrics::{OBJECT_BYTES_READ, OBJECT_BYTES_WRITTEN, OBJECT_REQUESTS};

/// Temporary files, by the last part of their names, which is unique. Emptied at start.
const UPLOADS: &str = "uploads";

/// Says which log this is, so that the manifest can name it.
const LOG_ID: &str = "log-id";

/// Larger files go up in parts of this size: S3 takes at least 5 MiB a part and at most 10,000 parts.
const PART_BYTES: usize = 16 << 20;

/// Parts on their way at the same time.
const PARTS_AT_ONCE: usize = 4;

/// A store that does not answer is asked again for so long. Callers wait meanwhile.
const RETRY_FOR: Duration = Duration::from_secs(30);

/// The same at start, where somebody looks on.
const RETRY_AT_START_FOR: Duration = Duration::from_secs(5);

/// How often the manifest is put again on top of an earlier put of this process that had no answer.
const REPLACE_TRIES: usize = 3;

/// Threads that talk to the store; they wait most of the time.
const STORE_THREADS: usize = 2;

pub struct ObjectDisk {
    remote: Arc<Remote>,
    role: Role,
    remove_after: Duration,
    held: Mutex<HashMap<String, Held>>,
    seen: Mutex<Option<Seen>>,
}

/// What this process does with the bucket.
enum Role {
    /// Its log is on this machine.
    Writes(Local),
    Reads,
    /// Nothing is on this machine.
    Backup,
}

struct Local {
    disk: LocalDisk,
    writer: WriterEntry,
}

/// What readers need of the store.
struct Remote {
    store: Arc<dyn ObjectStore>,
    prefix: ObjectPath,
    /// `s3://bucket/prefix`, for people.
    url: String,
    /// None once closing.
    runtime: Option<Runtime>,
    cache: Cache,
}

/// The version of a small file that a replacement must find.
#[derive(Default)]
struct Held {
    tag: Option<String>,
    /// Contents that were put without an answer: any of them may still arrive.
    unanswered: Vec<u64>,
}

/// A small file when it was last read.
struct Seen {
    name: String,
    tag: Option<String>,
    bytes: Bytes,
}

impl ObjectDisk {
    /// `log_dir` is where the log is kept; without one the disk can only be read.
    pub fn open(location: &S3Location, log_dir: Option<&Path>, config: &Config) -> Result<ObjectDisk> {
        ObjectDisk::connect(location, config, || {
            Ok(match log_dir {
                Some(log_dir) => Role::Writes(Local::open(log_dir)?),
                None => Role::Reads,
            })
        })
    }

    /// A backup has its log in the bucket, too, and nobody else reads what it removes.
    pub fn open_backup(location: &S3Location, config: &Config) -> Result<ObjectDisk> {
        ObjectDisk::connect(location, config, || Ok(Role::Backup))
    }

    fn connect(
        location: &S3Location,
        config: &Config,
        role: impl FnOnce() -> Result<Role>,
    ) -> Result<ObjectDisk> {
        let refused = |error: object_store::Error| unusable(location, &error);
        let store = s3(location, RETRY_FOR).map_err(refused)?;
        let disk = ObjectDisk::over(Arc::new(store), location, role()?, config)?;
        // One request says whether address, bucket and credentials are right, before anything depends on them.
        let first = s3(location, RETRY_AT_START_FOR).map_err(refused)?;
        let prefix = disk.remote.prefix.clone();
        disk.remote
            .run("LIST", async move { first.list_with_delimiter(Some(&prefix)).await })
            .map_err(refused)?;
        Ok(disk)
    }

    fn over(
        store: Arc<dyn ObjectStore>,
        location: &S3Location,
        role: Role,
        config: &Config,
    ) -> Result<ObjectDisk> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(STORE_THREADS).thread_name("store").enable_all().build();
        let runtime =
            runtime.map_err(|source| Error::io("start the threads of", location.to_string(), source))?;
        let remote = Remote {
            store,
            prefix: ObjectPath::from(location.prefix.as_str()),
            url: location.to_string(),
            runtime: Some(runtime),
            cache: Cache::new(config.limits.object_cache_bytes_max),
        };
        Ok(ObjectDisk {
            remote: Arc::new(remote),
            role,
            remove_after: config.server.remove_after,
            held: Mutex::default(),
            seen: Mutex::default(),
        })
    }

    /// The folder of this machine that has the file, if it is one of its.
    fn local(&self, name: &str) -> Option<io::Result<&LocalDisk>> {
        match &self.role {
            Role::Writes(local) => is_local(name).then_some(Ok(&local.disk)),
            Role::Reads => is_local(name)
                .then(|| Err(io::Error::new(io::ErrorKind::ReadOnlyFilesystem, "this server only reads"))),
            Role::Backup => None,
        }
    }

    /// Makes an object of the first bytes of a file; it has its name only once it is whole.
    fn upload(&self, file: Arc<dyn ReadFile>, len: u64, name: &str) -> io::Result<()> {
        let (store, path) = (Arc::clone(&self.remote.store), self.remote.path(name));
        let put = if len <= PART_BYTES as u64 {
            let bytes = file.read_at(0, len as usize)?;
            let put = async move { store.put(&path, PutPayload::from(bytes)).await };
            self.remote.run("PUT", put).map(drop)
        } else {
            let upload = async move {
                let mut upload = store.put_multipart(&path).await?;
                let sent = send_parts(&*file, len, &mut *upload).await;
                if sent.is_err()
                    && let Err(left) = upload.abort().await
                {
                    tracing::warn!(object = %path, error = said(&left), "parts of a failed upload stay in the bucket until its rule for incomplete uploads removes them");
                }
                sent
            };
            self.remote.run("PUT", upload)
        };
        put.map_err(|error| {
            let (said, object) = (said(&error), self.describe(name));
            io::Error::new(io_error(error).kind(), format!("{object}: {said}; {}", cure(&said)))
        })?;
        metrics::counter!(OBJECT_BYTES_WRITTEN).increment(len);
        Ok(())
    }

    fn put_if_held(
        &self,
        path: &ObjectPath,
        bytes: &Bytes,
        tag: Option<String>,
    ) -> object_store::Result<Option<String>> {
        let mode = match tag {
            Some(tag) => PutMode::Update(UpdateVersion { e_tag: Some(tag), version: None }),
            None => PutMode::Create,
        };
        let (store, path, payload) =
            (Arc::clone(&self.remote.store), path.clone(), PutPayload::from(bytes.clone()));
        let put = async move { store.put_opts(&path, payload, mode.into()).await };
        self.remote.run("PUT", put).map(|put| put.e_tag)
    }
}

impl Local {
    fn open(root: &Path) -> Result<Local> {
        let disk = LocalDisk::open(root)?;
        let prepare = || {
            disk.create_folder(UPLOADS)?;
            for name in disk.list(UPLOADS)? {
                disk.remove(&format!("{UPLOADS}/{name}"))?;
            }
            let log = match disk.read(LOG_ID) {
                Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_string(),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let log = format!("{:016x}", random());
                    disk.replace(LOG_ID, log.as_bytes())?;
                    log
                }
                Err(error) => return Err(error),
            };
            Ok(log)
        };
        let log = prepare().map_err(|source| Error::io("use", root.display().to_string(), source))?;
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let writer = WriterEntry { log, host, process: std::process::id() };
        Ok(Local { disk, writer })
    }
}

impl Remote {
    fn path(&self, name: &str) -> ObjectPath {
        name.split('/').filter(|part| !part.is_empty()).fold(self.prefix.clone(), |path, part| {
            // Names are escaped where they are made, and must not be again.
            ObjectPath::parse(format!("{path}/{part}")).unwrap_or_else(|_| path.clone().join(part))
        })
    }

    /// Runs a request on the store's threads and waits for it.
    fn run<T: Send + 'static>(
        &self,
        method: &'static str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> object_store::Result<T> {
        answer_of(&self.start(method, request))
    }

    fn start<T: Send + 'static>(
        &self,
        method: &'static str,
        request: impl Future<Output = object_store::Result<T>> + Send + 'static,
    ) -> Receiver<object_store::Result<T>> {
        metrics::counter!(OBJECT_REQUESTS, "method" => method).increment(1);
        let (send, receive) = crossbeam_channel::bounded(1);
        self.runtime().spawn(async move { drop(send.send(request.await)) });
        receive
    }

    fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().expect("there until dropped")
    }

    fn get(&self, name: &str, options: GetOptions) -> object_store::Result<(Option<String>, u64, Bytes)> {
        let (store, path) = (Arc::clone(&self.store), self.path(name));
        let got = self.run("GET", async move {
            let result = store.get_opts(&path, options).await?;
            let (tag, len) = (result.meta.e_tag.clone(), result.meta.size);
            Ok((tag, len, result.bytes().await?))
        })?;
        metrics::counter!(OBJECT_BYTES_READ).increment(got.2.len() as u64);
        Ok(got)
    }

    /// Names of the files and of the folders directly in a folder.
    fn list(&self, folder: &str) -> io::Result<(Vec<String>, Vec<String>)> {
        let (store, path) = (Arc::clone(&self.store), self.path(folder));
        let listed = self.run("LIST", async move { store.list_with_delimiter(Some(&path)).await });
        let listed = listed.map_err(io_error)?;
        let last = |path: &ObjectPath| path.filename().unwrap_or_default().to_string();
        let files = listed.objects.iter().map(|object| last(&object.location)).collect();
        Ok((files, listed.common_prefixes.iter().map(last).collect()))
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        // Waits for nobody: removals that are still to come are found again by the next start.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Disk for ObjectDisk {
    fn create(&self, name: &str) -> io::Result<Box<dyn WriteFile>> {
        match self.local(name) {
            Some(local) => local?.create(&local_name(name)),
            None => Err(io::Error::other("an object is made by a copy, or by renaming a temporary file")),
        }
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn ReadFile>> {
        match self.local(name) {
            Some(local) => local?.open(&local_name(name)),
            None => Ok(Arc::new(Reader::open(&self.remote, name).map_err(io_error)?)),
        }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        match (self.local(from), self.local(to)) {
            (Some(local), Some(_)) => local?.rename(&local_name(from), &local_name(to)),
            (Some(local), None) => {
                let local = local?;
                let file = local.open(&local_name(from))?;
                let len = file.len();
                self.upload(file, len, to)?;
                local.remove(&local_name(from))
            }
            (None, _) => Err(io::Error::other("an object keeps its name")),
        }
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        if let Some(local) = self.local(name) {
            return local?.remove(&local_name(name));
        }
        let (store, path, after) =
            (Arc::clone(&self.remote.store), self.remote.path(name), self.remove_after);
        if matches!(self.role, Role::Backup) {
            let removed = self.remote.run("DELETE", async move { store.delete(&path).await });
            return removed.map_err(io_error);
        }
        self.remote.runtime().spawn(async move {
            tokio::time::sleep(after).await;
            metrics::counter!(OBJECT_REQUESTS, "method" => "DELETE").increment(1);
            if let Err(error) = store.delete(&path).await {
                tracing::warn!(object = %path, error = said(&error), "a block that is no longer needed could not be removed; the next start will");
            }
        });
        Ok(())
    }

    fn truncate(&self, name: &str, len: u64) -> io::Result<()> {
        match self.local(name) {
            Some(local) => local?.truncate(&local_name(name), len),
            None => Err(io::Error::other("an object keeps its length")),
        }
    }

    fn list(&self, folder: &str) -> io::Result<Vec<String>> {
        match self.local(folder) {
            Some(Ok(local)) => local.list(folder),
            Some(Err(_)) => Ok(Vec::new()),
            None => self.remote.list(folder).map(|(files, _)| files),
        }
    }

    fn list_folders(&self, folder: &str) -> io::Result<Vec<String>> {
        match self.local(folder) {
            Some(Ok(local)) => local.list_folders(folder),
            Some(Err(_)) => Ok(Vec::new()),
            None => self.remote.list(folder).map(|(_, folders)| folders),
        }
    }

    fn create_folder(&self, folder: &str) -> io::Result<()> {
        match self.local(folder) {
            Some(local) => local?.create_folder(folder),
            // A store has no folders, only names with `/` in them.
            None => Ok(()),
        }
    }

    fn sync_folder(&self, folder: &str) -> io::Result<()> {
        match self.local(folder) {
            Some(local) => local?.sync_folder(folder),
            None => Ok(()),
        }
    }

    /// The first reading decides what [`Disk::replace`] must find; later ones only look.
    fn read(&self, name: &str) -> io::Result<Bytes> {
        let known = {
            let seen = self.seen.lock();
            let known = seen.as_ref().filter(|seen| seen.name == name);
            known.and_then(|seen| Some((seen.tag.clone()?, seen.bytes.clone())))
        };
        let (if_none_match, known) = known.unzip();
        match self.remote.get(name, GetOptions { if_none_match, ..GetOptions::default() }) {
            Ok((tag, _, bytes)) => {
                let mut held = self.held.lock();
                let held = held.entry(name.to_string()).or_default();
                if held.tag.is_none() {
                    held.tag = tag.clone();
                }
                *self.seen.lock() = Some(Seen { name: name.to_string(), tag, bytes: bytes.clone() });
                Ok(bytes)
            }
            Err(object_store::Error::NotModified { .. }) if known.is_some() => Ok(known.unwrap_or_default()),
            Err(error) => Err(io_error(error)),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut held = self.held.lock();
        let held = held.entry(name.to_string()).or_default();
        let bytes = Bytes::copy_from_slice(bytes);
        let path = self.remote.path(name);
        for _ in 0..REPLACE_TRIES {
            let failed = match self.put_if_held(&path, &bytes, held.tag.clone()) {
                Ok(tag) => {
                    *held = Held { tag, unanswered: Vec::new() };
                    return Ok(());
                }
                Err(error) => error,
            };
            // The answer may be what was lost, or it tells of an earlier try whose answer was.
            let (tag, found) = match self.remote.get(name, GetOptions::default()) {
                Ok((tag, _, found)) => (tag, found),
                Err(_) => {
                    held.unanswered.push(digest(&bytes));
                    return Err(io_error(failed));
                }
            };
            if found == bytes {
                *held = Held { tag, unanswered: Vec::new() };
                return Ok(());
            }
            if held.unanswered.contains(&digest(&found)) {
                // One's own, put before without an answer: go on from there.
                held.tag = tag;
                continue;
            }
            if tag == held.tag {
                held.unanswered.push(digest(&bytes));
                return Err(io_error(failed));
            }
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, "another writer has replaced it"));
        }
        Err(io::Error::other("the store keeps answering for earlier puts"))
    }

    fn copy(&self, from: &dyn Disk, from_name: &str, len: u64, name: &str) -> io::Result<()> {
        match self.local(name) {
            Some(local) => local?.copy(from, from_name, len, &local_name(name)),
            None => self.upload(from.open(from_name)?, len, name),
        }
    }

    fn ending(&self, name: &str, bytes: u64) -> io::Result<(u64, Bytes)> {
        if let Some(local) = self.local(name) {
            return local?.ending(&local_name(name), bytes);
        }
        let range = Some(GetRange::Suffix(bytes));
        let got = self.remote.get(name, GetOptions { range, ..GetOptions::default() });
        got.map(|(_, len, ending)| (len, ending)).map_err(io_error)
    }

    fn describe(&self, name: &str) -> String {
        match &self.role {
            Role::Writes(local) if is_local(name) => local.disk.describe(&local_name(name)),
            _ if name.is_empty() => self.remote.url.clone(),
            _ => format!("{}/{name}", self.remote.url),
        }
    }

    fn writer(&self) -> Option<WriterEntry> {
        match &self.role {
            Role::Writes(local) => Some(local.writer.clone()),
            Role::Reads | Role::Backup => None,
        }
    }
}

fn answer_of<T>(answer: &Receiver<object_store::Result<T>>) -> object_store::Result<T> {
    answer.recv().unwrap_or_else(|_| {
        let source = "the request was given up".into();
        Err(object_store::Error::Generic { store: "object store", source })
    })
}

/// If it fails, no part is on its way any more, and those that have arrived are to be taken back.
async fn send_parts(
    file: &dyn ReadFile,
    len: u64,
    upload: &mut dyn MultipartUpload,
) -> object_store::Result<()> {
    let mut parts: JoinSet<object_store::Result<()>> = JoinSet::new();
    let mut send = async || {
        let mut at = 0;
        while at < len {
            let bytes = (PART_BYTES as u64).min(len - at);
            let part = file.read_at(at, bytes as usize);
            let part = part
                .map_err(|source| object_store::Error::Generic { store: "file", source: Box::new(source) })?;
            if parts.len() == PARTS_AT_ONCE
                && let Some(sent) = parts.join_next().await
            {
                sent??;
            }
            parts.spawn(upload.put_part(part.into()));
            at += bytes;
        }
        while let Some(sent) = parts.join_next().await {
            sent??;
        }
        upload.complete().await.map(drop)
    };
    let sent = send().await;
    parts.shutdown().await;
    sent
}

/// The log, and what is being written.
fn is_local(name: &str) -> bool {
    let folder = name.split('/').next().unwrap_or_default();
    folder == LOG_FOLDER || is_temporary(name)
}

fn is_temporary(name: &str) -> bool {
    name.rsplit_once('.').is_some_and(|(_, suffix)| suffix == TEMPORARY)
}

/// The last part of a block's name holds its number, so no two are alike.
fn local_name(name: &str) -> String {
    match is_temporary(name) {
        true => format!("{UPLOADS}/{}", name.rsplit('/').next().unwrap_or(name)),
        false => name.to_string(),
    }
}

/// 64 bits that no other process has: the standard library seeds its hash tables from the system's randomness.
fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// To recognise a content again, not to trust it.
fn digest(bytes: &Bytes) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// Address, credentials and region come from the `AWS_*` environment, where the tools of the cloud put them.
fn s3(location: &S3Location, retry_for: Duration) -> object_store::Result<object_store::aws::AmazonS3> {
    let builder = AmazonS3Builder::from_env().with_bucket_name(&location.bucket);
    let endpoint = builder
        .get_config_value(&AmazonS3ConfigKey::S3Endpoint)
        .or_else(|| builder.get_config_value(&AmazonS3ConfigKey::Endpoint));
    let plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http://"));
    let retry = RetryConfig {
        backoff: BackoffConfig { max_backoff: Duration::from_secs(5), ..BackoffConfig::default() },
        // The time decides, which a number of tries with random pauses would cut short.
        max_retries: usize::MAX,
        retry_timeout: retry_for,
    };
    let client = ClientOptions::new().with_allow_http(plain).with_connect_timeout(RETRY_AT_START_FOR);
    builder.with_client_options(client).with_retry(retry).build()
}

fn unusable(location: &S3Location, error: &object_store::Error) -> Error {
    let said = said(error);
    Error::rejected(
        Kind::Invalid,
        "object_store",
        format!("the bucket {} cannot be used: {said}; {}", location.bucket, cure(&said)),
    )
}

/// Of a request that fails, only the answer's code tells the crate's callers why.
fn cure(said: &str) -> &'static str {
    match said.split(' ').next().unwrap_or_default() {
        "NoSuchBucket" => "create the bucket, or correct its name",
        "InvalidAccessKeyId" | "SignatureDoesNotMatch" | "AccessDenied" => {
            "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, and what that key may do in the bucket"
        }
        _ => "check AWS_ENDPOINT_URL, AWS_REGION and the AWS_* credentials",
    }
}

fn io_error(error: object_store::Error) -> io::Error {
    let kind = match &error {
        object_store::Error::NotFound { .. } => io::ErrorKind::NotFound,
        object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. } => {
            io::ErrorKind::PermissionDenied
        }
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, said(&error))
}

/// What the store answered, without the XML around it.
fn said(error: &object_store::Error) -> String {
    let text = error.to_string();
    let element = |name: &str| {
        let (_, rest) = text.split_once(&format!("<{name}>"))?;
        rest.split_once(&format!("</{name}>")).map(|(inner, _)| inner.trim().to_string())
    };
    match (element("Code"), element("Message")) {
        (Some(code), Some(message)) => format!("{code} ({message})"),
        (Some(code), None) => code,
        _ => text,
    }
}

#[cfg(test)]
mod tests;
