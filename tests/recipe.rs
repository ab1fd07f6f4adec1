//! A query is added, changed and dropped as `docs/extend.md` says, and the next start corrects its
//! table.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use marketday::platform::private_postgres::PrivatePostgres;
use postgres::Client;

use crate::support::{command_of, connect, marketday, scratch};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The files that the recipe shows: a path between backticks at the start of a line, and the next
/// block of code.
fn recipe() -> Vec<(String, String)> {
    let text = fs::read_to_string(root().join("docs/extend.md")).unwrap();
    let (_, section) = text.split_once("\n## Add a query\n").unwrap();
    let (section, _) = section.split_once("\n## ").unwrap();
    let mut files = Vec::new();
    let mut rest = section;
    while let Some((_, after)) = rest.split_once("\n`") {
        let (path, after) = after.split_once('`').unwrap();
        let (_, after) = after.split_once("\n```").unwrap();
        let (_language, after) = after.split_once('\n').unwrap();
        let (text, after) = after.split_once("```\n").unwrap();
        files.push((path.to_owned(), text.to_owned()));
        rest = after;
    }
    files
}

/// The sources of a program of its own name, which shares the dependencies that are built here.
struct Sources(PathBuf);

impl Sources {
    /// A fresh copy; always in one place, so that a second run builds less.
    fn copy() -> Sources {
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("recipe");
        _ = fs::remove_dir_all(&dir);
        fs::create_dir(&dir).unwrap();
        let parts =
            ["Cargo.lock", "src", "dataflows", "grafana", "migrations"].map(|it| root().join(it));
        let copied = Command::new("cp").arg("-r").args(parts).arg(&dir).status().unwrap();
        assert!(copied.success());
        let manifest = fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let (before, tests) = manifest.split_once("[dev-dependencies]").unwrap();
        let (_, after) = tests.split_once("[lints]").unwrap();
        let before = before.replace("name = \"marketday\"", "name = \"recipe\"");
        let library = "[lib]\nname = \"marketday\"\n\n";
        fs::write(dir.join("Cargo.toml"), format!("{before}{library}[lints]{after}")).unwrap();
        Sources(dir)
    }

    fn edit(&self, path: &str, edit: impl Fn(String) -> String) {
        let path = self.0.join(path);
        let before = fs::read_to_string(&path).unwrap();
        let after = edit(before.clone());
        assert_ne!(after, before, "{}", path.display());
        fs::write(path, after).unwrap();
    }

    /// The number of the next migration.
    fn next_migration(&self) -> u32 {
        let files = self.0.join("migrations").read_dir().unwrap();
        let numbers = files.map(|file| {
            let name = file.unwrap().file_name().into_string().unwrap();
            name[1..].split_once("__").unwrap().0.parse::<u32>().unwrap()
        });
        numbers.max().unwrap() + 1
    }

    fn migrate(&self, sql: &str) {
        let name = format!("migrations/V{}__spending.sql", self.next_migration());
        fs::write(self.0.join(name), sql).unwrap();
    }

    /// Builds the program, what is ours without optimisation.
    fn build(&self) -> PathBuf {
        let target = Path::new(env!("CARGO_BIN_EXE_marketday")).ancestors().nth(2).unwrap();
        let mut command = Command::new(env!("CARGO"));
        command.args(["build", "--release", "--offline", "--bin", "recipe"]).current_dir(&self.0);
        for package in ["dataflows", "recipe"] {
            command.args(["--config", &format!("profile.release.package.{package}.opt-level=0")]);
        }
        // The second and the third build are of one query.
        command.env("CARGO_INCREMENTAL", "1").env_remove("RUSTC_BOOTSTRAP");
        let built = command.arg("--target-dir").arg(target).output().unwrap();
        assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
        target.join("release/recipe")
    }
}

fn run(program: &Path, words: &[&str]) -> String {
    let output = command_of(program, words).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{words:?}: {said}");
    said.into_owned()
}

/// Two numbers of the first row that a query gives.
fn numbers(db: &mut Client, sql: &str) -> (i64, i64) {
    let row = db.query_one(sql, &[]).unwrap();
    (row.get(0), row.get(1))
}

#[test]
fn a_query_is_added_changed_and_dropped() {
    let dir = scratch();
    let place = dir.to_str().unwrap();
    marketday(&["up", "--history", "3d", "--exit-when-caught-up", "--dir", place]);
    let server = PrivatePostgres::start(&dir).unwrap();
    let db = &mut connect(&server.config());
    let commits = "SELECT count(*), max(epoch) FROM commit_points";
    // After a start with nothing to read there is one commit point more, and all is equal.
    let start = |program: &Path, db: &mut Client| {
        let (before, _) = numbers(db, commits);
        run(program, &["analytics", "--exit-when-caught-up", "--dir", place]);
        let (after, _) = numbers(db, commits);
        assert_eq!(after, before + 1, "the table is corrected in the first transaction");
        let said = run(program, &["verify", "--dir", place]);
        assert!(said.contains("all equal"), "{said}");
        said
    };

    let sources = Sources::copy();
    let recipe = recipe();
    let [(rust, _), (sql, _), (migration, _)] = &recipe[..] else {
        panic!("the recipe has three files: {recipe:?}");
    };
    assert_eq!(rust, "dataflows/queries/spending.rs");
    assert_eq!(sql, "dataflows/queries/spending.sql");
    let number = sources.next_migration();
    assert_eq!(*migration, format!("migrations/V{number}__spending.sql"), "the next free number");
    for (path, text) in &recipe {
        fs::write(sources.0.join(path), text).unwrap();
    }
    sources.edit("dataflows/queries/mod.rs", |text| {
        text.replace("mod users;\n", "mod spending;\nmod users;\n")
            .replace("    users\n", "    spending\n    users\n")
    });
    let said = start(&sources.build(), db);
    assert!(said.contains("\nspending "), "{said}");
    let spending = "SELECT count(*), sum(spent)::bigint FROM spending";
    let placed = "SELECT count(DISTINCT user_id), sum(quantity * unit_price)::bigint
                  FROM order_lines WHERE event = 'placed'";
    let (customers, net) = numbers(db, spending);
    let (_, gross) = numbers(db, placed);
    assert!(customers > 0 && net < gross, "{customers} customers, {net} of {gross}");

    // Changed: what was placed, whatever was taken back.
    sources.edit(rust, |text| text.replace("sums.revenue - sums.refunded", "sums.revenue"));
    sources.edit(sql, |text| text.replace("ELSE -amount END", "ELSE 0 END"));
    start(&sources.build(), db);
    assert_eq!(numbers(db, spending).1, gross);

    // Dropped.
    fs::remove_file(sources.0.join(rust)).unwrap();
    fs::remove_file(sources.0.join(sql)).unwrap();
    sources.edit("dataflows/queries/mod.rs", |text| {
        text.replace("mod spending;\n", "").replace("    spending\n", "")
    });
    sources.migrate("DROP TABLE spending;\n");
    let program = sources.build();
    run(&program, &["analytics", "--exit-when-caught-up", "--dir", place]);
    let said = run(&program, &["verify", "--dir", place]);
    assert!(said.contains("all equal") && !said.contains("spending"), "{said}");
    let (tables, _) =
        numbers(db, "SELECT count(*), 0::bigint FROM pg_class WHERE relname = 'spending'");
    assert_eq!(tables, 0);
}
