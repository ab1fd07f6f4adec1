//! Compiles the migrations, the dashboards and the web page in again when one of them changes; and names the
//! code of the graph, so that no checkpoint of another one is gone on from.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::Path;

fn main() {
    for embedded in ["migrations", "grafana/dashboards", "src/page/web"] {
        println!("cargo:rerun-if-changed={embedded}");
    }
    let mut form = DefaultHasher::new();
    // The compiler's library says how keys are hashed.
    let compiler = std::env::var_os("RUSTC").expect("Cargo says which");
    let compiler = std::process::Command::new(compiler).arg("--version").output();
    compiler.map(|it| it.stdout).ok().hash(&mut form);
    for code in ["Cargo.lock", "dataflows", "migrations", "src/engine/checkpoint"] {
        println!("cargo:rerun-if-changed={code}");
        add(Path::new(code), &mut form);
    }
    println!("cargo:rustc-env=MARKETDAY_FORM={:016x}", form.finish());
}

/// Adds a file, or all in a directory.
fn add(path: &Path, to: &mut DefaultHasher) {
    let Ok(entries) = path.read_dir() else {
        return (path.to_str(), std::fs::read(path).ok()).hash(to);
    };
    let mut paths: Vec<_> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    paths.sort();
    for path in &paths {
        add(path, to);
    }
}
