//! What the compiler refuses: errors and values that cannot go from thread to thread.
//!
//! The programs in `compile_fail/` are given to the compiler itself, against the library that these
//! tests are linked with. (`trybuild` would check all development dependencies once more, minutes
//! on a small machine, and compare texts that change with each version of the compiler.)

mod common;

use common::Watchdog;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What the compiler says of a program; nothing, if it compiles.
fn compile(program: &str, library: &Path) -> Option<String> {
    let deps = library.parent().unwrap();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compile_fail").join(program);
    let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join(program).with_extension("rmeta");
    let flags = std::env::var("RUSTFLAGS").unwrap_or_default();
    let output = Command::new(std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned()))
        .args(["--edition=2024", "--crate-type=bin", "--emit=metadata", "-o"])
        .arg(output)
        .args(flags.split_whitespace())
        .arg("-L")
        .arg(format!("dependency={}", deps.display()))
        .arg("--extern")
        .arg(format!("larder={}", library.display()))
        .arg(source)
        .output()
        .expect("the compiler that compiled this");
    (!output.status.success()).then(|| String::from_utf8_lossy(&output.stderr).into_owned())
}

/// The library as it was built last, by this compiler and with these flags: the control says so.
fn library() -> PathBuf {
    let deps = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let mut found: Vec<(SystemTime, PathBuf)> = std::fs::read_dir(deps)
        .unwrap()
        .flatten()
        .filter(|file| {
            let name = file.file_name();
            let name = name.to_string_lossy();
            name.starts_with("liblarder-") && name.ends_with(".rlib")
        })
        .map(|file| (file.metadata().unwrap().modified().unwrap(), file.path()))
        .collect();
    found.sort();
    let mut said = String::from("there is no library here");
    for (_, library) in found.into_iter().rev() {
        match compile("control.rs", &library) {
            None => return library,
            Some(errors) => said = errors,
        }
    }
    panic!("a legal program does not compile: {said}");
}

#[test]
fn what_cannot_be_shared_between_threads_does_not_compile() {
    let _watchdog = Watchdog::start();
    let library = library();
    for (program, expected) in [
        ("error_is_not_send.rs", "`Rc<&str>` cannot be sent between threads safely"),
        ("error_borrows.rs", "`text` does not live long enough"),
        ("value_is_not_send.rs", "`Rc<u64>: Send`"),
        ("future_is_not_send.rs", "future cannot be sent between threads safely"),
    ] {
        let said = compile(program, &library).expect(program);
        assert!(said.contains(expected), "{program}: {said}");
        assert!(said.contains("get_or_load") || program == "value_is_not_send.rs", "{said}");
    }
}
