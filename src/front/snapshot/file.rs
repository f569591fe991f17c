//! A file that is written as a whole or not at all.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, BufWriter, IntoInnerError};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Replaces the file at `path` by what `write` writes: written to a file beside it, synced, and renamed.
pub(super) fn replace<T, E: From<io::Error>>(
    path: &Path,
    write: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, E> {
    let aside = TempFile::new(path);
    let mut file = BufWriter::with_capacity(1 << 18, File::create(&aside.0)?);
    let written = write(&mut file)?;
    let file = file.into_inner().map_err(IntoInnerError::into_error)?;
    // synced before it is renamed: a crash leaves the old file or the new one
    file.sync_all()?;
    drop(file);
    fs::rename(&aside.0, path)?;
    #[cfg(unix)]
    if let Some(folder) = path.parent() {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        File::open(folder)?.sync_all()?;
    }
    Ok(written)
}

/// A temporary file beside another; removed on drop unless it was renamed.
struct TempFile(PathBuf);

impl TempFile {
    fn new(path: &Path) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let mut name = path.file_name().map_or_else(OsString::new, OsString::from);
        name.push(format!(".{}-{number}.part", std::process::id()));
        Self(path.with_file_name(name))
    }
}

impl Drop for TempFile {
    fn drop(&mut self) {
        // renamed already, if all went well
        _ = fs::remove_file(&self.0);
    }
}
