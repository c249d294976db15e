//! Input files: which there are, what they hold, and how their text is unpacked.

use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use crate::error::{Error, Kind, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Lines,
    Csv,
    Parquet,
}

pub(super) struct Input {
    pub path: PathBuf,
    pub form: Form,
    pub bytes: u64,
}

/// Read for the fingerprint at either end; what lies between changes seldom without the length or these.
const FINGERPRINT_BYTES: u64 = 1 << 20;

const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The files as given, and those in the folders, by name.
pub(super) fn find(paths: &[PathBuf]) -> Result<Vec<Input>> {
    let mut inputs = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = inputs.len();
            walk(path, &mut inputs)?;
            if inputs.len() == before {
                let why = format!("{} has no .lp, .line, .txt, .csv or .parquet in it", path.display());
                return Err(Error::rejected(Kind::NotFound, "no_files", why));
            }
        } else {
            // A name without a known ending is taken for line protocol, which says itself what it holds.
            inputs.push(input(path, form_of(path).unwrap_or(Form::Lines))?);
        }
    }
    Ok(inputs)
}

fn walk(folder: &Path, inputs: &mut Vec<Input>) -> Result<()> {
    let failed = |source| Error::io("list", folder.display().to_string(), source);
    let mut paths = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        paths.push(entry.map_err(failed)?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            walk(&path, inputs)?;
        } else if let Some(form) = form_of(&path) {
            inputs.push(input(&path, form)?);
        }
    }
    Ok(())
}

fn form_of(path: &Path) -> Option<Form> {
    let name = path.file_name()?.to_str()?.to_lowercase();
    let name = name.strip_suffix(".gz").or(name.strip_suffix(".zst")).unwrap_or(&name);
    match name.rsplit_once('.')?.1 {
        "lp" | "line" | "txt" => Some(Form::Lines),
        "csv" => Some(Form::Csv),
        "parquet" => Some(Form::Parquet),
        _ => None,
    }
}

pub(super) fn input(path: &Path, form: Form) -> Result<Input> {
    let found = std::fs::metadata(path);
    let found = found.map_err(|source| Error::io("open", path.display().to_string(), source))?;
    Ok(Input { path: path.to_path_buf(), form, bytes: found.len() })
}

impl Input {
    pub fn error(&self, doing: &'static str) -> impl Fn(std::io::Error) -> Error + use<> {
        let file = self.path.display().to_string();
        move |source| Error::io(doing, file.clone(), source)
    }

    #[expect(clippy::disallowed_methods, reason = "a file of the caller's, not of the database")]
    pub fn open(&self) -> Result<File> {
        File::open(&self.path).map_err(self.error("open"))
    }

    /// Its length, and a checksum of its first and last bytes.
    pub fn fingerprint(&self) -> Result<String> {
        let mut file = self.open()?;
        let mut both_ends = || -> std::io::Result<u32> {
            let mut bytes = Vec::new();
            Read::by_ref(&mut file).take(FINGERPRINT_BYTES).read_to_end(&mut bytes)?;
            file.seek(SeekFrom::Start(self.bytes.saturating_sub(FINGERPRINT_BYTES)))?;
            Read::by_ref(&mut file).take(FINGERPRINT_BYTES).read_to_end(&mut bytes)?;
            Ok(crc32c::crc32c(&bytes))
        };
        Ok(format!("{}-{:08x}", self.bytes, both_ends().map_err(self.error("read"))?))
    }

    /// Its text, unpacked.
    pub fn text(&self) -> Result<Box<dyn Read>> {
        let mut file = self.open()?;
        let mut start = Vec::new();
        Read::by_ref(&mut file)
            .take(ZSTD.len() as u64)
            .read_to_end(&mut start)
            .map_err(self.error("read"))?;
        file.rewind().map_err(self.error("read"))?;
        Ok(match start.as_slice() {
            packed if packed.starts_with(&GZIP) => {
                Box::new(flate2::read::MultiGzDecoder::new(BufReader::new(file)))
            }
            packed if packed.starts_with(&ZSTD) => {
                Box::new(zstd::stream::read::Decoder::new(file).map_err(self.error("unpack"))?)
            }
            _ => Box::new(file),
        })
    }
}
