//! What the documents say is so: their commands are run and say what is shown, their links and paths lead
//! somewhere, and no command, flag, table or column is left out.
//!
//! The blocks of a document run in order in one directory, in which `./marketday` is the program. In a
//! sample a line `...` stands for any lines, and `...` in a line for any text; numbers and the widths of
//! columns do not matter. A comment before a block says what else becomes of it:
//!
//! - `<!-- test: skip, WHY -->`: it is not run.
//! - `<!-- test: background -->`: its one command runs on to the end of the document, once it has said
//!   what is shown.
//! - `<!-- test: file NAME -->`: it becomes a file.
//! - `<!-- test: run COMMAND -->`: stands alone; the command is run there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;

use dataflows::QUERIES;
use dataflows::market::{Profile, Scenario};
use marketday::platform::private_postgres::PrivatePostgres;
use postgres::SimpleQueryMessage;

use crate::support::{Running, command_of, connect, fresh_database, marketday, scratch};

/// Declares a test for each document.
macro_rules! documents {
    ($($test:ident: $path:literal,)*) => {
        /// The documents whose blocks are run.
        const DOCUMENTS: &[&str] = &[$($path),*];

        $(
            #[test]
            fn $test() {
                Document::run($path);
            }
        )*
    };
}

documents! {
    the_readme_is_so: "README.md",
    the_changelog_is_so: "CHANGELOG.md",
    contributing_is_so: ".github/CONTRIBUTING.md",
    extend_is_so: "docs/extend.md",
    guarantee_is_so: "docs/guarantee.md",
    the_market_is_so: "docs/market.md",
    operate_is_so: "docs/operate.md",
    speed_is_so: "docs/speed.md",
    the_tables_are_so: "docs/tables.md",
    use_is_so: "docs/use.md",
    the_views_are_so: "docs/views.md",
    the_words_are_so: "docs/words.md",
    the_dashboards_are_so: "grafana/README.md",
    the_measurements_are_so: "benches/README.md",
}

/// Documents in Korean, each with the one whose blocks it has.
const KOREAN: [(&str, &str); 2] =
    [("README.ko.md", "README.md"), ("docs/views.ko.md", "docs/views.md")];

/// What stands before SQL in a block, as `psql` has it.
const PROMPT: &str = "marketday=> ";

/// Where the page is served unless somebody else is there.
const PAGE: &str = "127.0.0.1:8020";

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All documents.
fn documents() -> impl Iterator<Item = &'static str> {
    DOCUMENTS.iter().copied().chain(KOREAN.map(|(korean, _)| korean))
}

// --- reading a document

/// What a document has for the test.
enum Part {
    Command(String),
    Block(Block),
}

struct Block {
    /// The number of its first line.
    line: usize,
    kind: String,
    text: String,
    /// What the comment before it says.
    note: Option<String>,
}

/// The blocks and the comments for the test, in order.
fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut note: Option<String> = None;
    let mut lines = text.lines().zip(1..);
    while let Some((line, number)) = lines.next() {
        if let Some(comment) = line.strip_prefix("<!--") {
            let said = comment.strip_prefix(" test: ").and_then(|it| it.strip_suffix(" -->"));
            let said =
                said.unwrap_or_else(|| panic!("line {number}: a comment for nobody: {line}"));
            assert!(note.is_none(), "line {number}: the comment before it has no block");
            match said.strip_prefix("run ") {
                Some(command) => parts.push(Part::Command(command.to_owned())),
                None => note = Some(said.to_owned()),
            }
        } else if let Some(kind) = line.strip_prefix("```") {
            let inner = lines.by_ref().map(|(line, _)| line).take_while(|line| *line != "```");
            let text = inner.flat_map(|line| [line, "\n"]).collect();
            let (kind, note) = (kind.to_owned(), note.take());
            parts.push(Part::Block(Block { line: number, kind, text, note }));
        }
    }
    assert!(note.is_none(), "the last comment has no block");
    parts
}

/// The lines outside of blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut inside = false;
    let outside = |line: &&str| {
        let border = line.starts_with("```");
        inside ^= border;
        !inside && !border
    };
    text.lines().filter(outside).collect()
}

/// What stands between backticks in a line.
fn spans<'t>(line: &&'t str) -> impl Iterator<Item = &'t str> + use<'t> {
    assert!(line.matches('`').count().is_multiple_of(2), "between backticks over lines: {line}");
    line.split('`').skip(1).step_by(2)
}

// --- what was said, and the sample of it

/// A line without what differs from run to run: every number is 0, and runs of spaces and of dashes are
/// one of them.
fn plain(line: &str) -> String {
    let line: Vec<char> = line.trim().chars().collect();
    let digit = |at: usize| line.get(at).is_some_and(char::is_ascii_digit);
    let mut plain = String::new();
    for (at, character) in line.iter().enumerate() {
        let between =
            matches!(character, '.' | ',' | ':') && at > 0 && digit(at - 1) && digit(at + 1);
        let number = digit(at) || between;
        let character = match character {
            _ if number => '0',
            '+' => '-',
            other => *other,
        };
        let again = plain.ends_with(character) && (number || matches!(character, ' ' | '-'));
        if !again {
            plain.push(character);
        }
    }
    plain
}

/// Whether what was said is like a sample.
fn is_like(sample: &[&str], said: &str) -> bool {
    let sample: Vec<String> = sample.iter().map(|line| plain(line)).collect();
    let said: Vec<String> = said.trim_end().lines().map(plain).collect();
    lines_are_like(&sample, &said)
}

/// The same of lines that are plain.
fn lines_are_like(sample: &[String], said: &[String]) -> bool {
    let Some((line, rest)) = sample.split_first() else { return said.is_empty() };
    if line == "..." {
        return (0..=said.len()).any(|passed| lines_are_like(rest, &said[passed..]));
    }
    let Some((first, others)) = said.split_first() else { return false };
    line_is_like(line, first) && lines_are_like(rest, others)
}

/// The same of one line.
fn line_is_like(sample: &str, said: &str) -> bool {
    let Some((start, after)) = sample.split_once("...") else { return sample == said };
    let Some(rest) = said.strip_prefix(start) else { return false };
    let mut ends = rest.char_indices().map(|(at, _)| at).chain([rest.len()]);
    ends.any(|at| line_is_like(after, &rest[at..]))
}

#[test]
fn a_sample_is_like_what_differs_in_numbers_and_not_in_words() {
    let said =
        "rows  1,024 in 0.5 s\n| a | 12 |\n+---+----+\nat 2026-11-29 10:00:00+00\nall equal\n";
    assert!(is_like(&["rows 7 in 12.0 s", "...", "all equal"], said));
    assert!(is_like(&["...", "at 2026-11-30 1:00:00-05", "all ..."], said));
    assert!(is_like(&["rows ... s", "|  a  | 3 |", "+-+-+", "...", "all equal", "..."], said));
    for wrong in [
        &["rows 7 in 12.0 s", "all equal"][..],
        &["rows 7 in 12.0 s", "...", "all equals"],
        &["...", "not ..."],
        &["row ...", "...", "all unequal"],
    ] {
        assert!(!is_like(wrong, said), "{wrong:?}");
    }
    assert!(!is_like(&[], said) && is_like(&[], "\n"));
    assert!(is_like(&["..."], "") && !is_like(&["a"], ""));
}

// --- running a document

/// A command of a block, and what is shown of what it says.
type Step<'t> = (String, Vec<&'t str>);

/// The commands of a block.
fn steps<'t>(text: &'t str, place: &str) -> Vec<Step<'t>> {
    let mut steps: Vec<Step<'t>> = Vec::new();
    for line in text.lines() {
        if line.starts_with("$ ") || line.starts_with(PROMPT) {
            steps.push((line.to_owned(), Vec::new()));
            continue;
        }
        let step = steps.last_mut();
        let (command, sample) = step.unwrap_or_else(|| panic!("{place}: no command before {line}"));
        if sample.is_empty() && command.ends_with('\\') {
            command.push('\n');
            command.push_str(line);
        } else {
            sample.push(line);
        }
    }
    for (_, sample) in &mut steps {
        while sample.last().is_some_and(|line| line.is_empty()) {
            sample.pop();
        }
    }
    steps
}

/// A document that is run.
struct Document {
    path: &'static str,
    dir: PathBuf,
    /// Programs that run on to its end.
    running: Vec<Running>,
    /// Where the page is served.
    page: Option<String>,
    /// The private server, kept between the commands: they are quicker.
    server: Option<PrivatePostgres>,
    /// Commands so far.
    commands: usize,
}

impl Document {
    fn run(path: &'static str) {
        let dir = scratch();
        symlink(env!("CARGO_BIN_EXE_marketday"), dir.join("marketday")).unwrap();
        let (running, page, server) = (Vec::new(), None, None);
        let mut document = Document { path, dir, running, page, server, commands: 0 };
        for part in parts(&read(path)) {
            match part {
                Part::Command(command) => _ = document.shell(&command, path),
                Part::Block(block) => document.block(&block),
            }
        }
        document.end();
    }

    fn block(&mut self, block: &Block) {
        let place = format!("{}, line {}", self.path, block.line);
        let note = block.note.as_deref();
        if let Some(why) = note.and_then(|note| note.strip_prefix("skip")) {
            assert!(why.starts_with(", ") && why.len() > 4, "{place}: skipped, and why?");
            return;
        }
        let file = note.and_then(|note| note.strip_prefix("file "));
        let background = note == Some("background");
        assert!(note.is_none() || file.is_some() || background, "{place}: what is {note:?}?");
        if let Some(name) = file {
            fs::write(self.dir.join(name), &block.text).unwrap();
        }
        match block.kind.as_str() {
            "console" => self.console(&block.text, background, &place),
            "sh" => _ = self.shell(&block.text, &place),
            "sql" => {
                let ran = connect(&self.server().config()).batch_execute(&block.text);
                ran.unwrap_or_else(|error| panic!("{place}: {error:?}"));
            }
            "toml" => check_toml(&block.text, &place),
            "json" => {
                let (dir, file) = (scratch(), scratch().join("lines"));
                fs::write(&file, &block.text).unwrap();
                let (dir, file) = (dir.to_str().unwrap(), file.to_str().unwrap());
                marketday(&["import", "--dir", dir, file]);
            }
            kind => panic!("{place}: a block of {kind:?} is run by nobody: say before it why"),
        }
    }

    /// Runs the commands of a block; each says what is shown.
    fn console(&mut self, text: &str, background: bool, place: &str) {
        let steps = steps(text, place);
        assert!(!steps.is_empty(), "{place}: no command");
        assert!(!background || steps.len() == 1, "{place}: one command can run on");
        for (step, sample) in steps {
            let said = match step.strip_prefix("$ ") {
                None => self.query(step.trim_start_matches(PROMPT), place),
                Some(command) if background => {
                    self.start(command, &sample, place);
                    continue;
                }
                Some(command) => self.shell(command, place),
            };
            let shown = sample.join("\n");
            assert!(is_like(&sample, &said), "{place}: {step}\nsays\n{said}\nand not\n{shown}");
        }
    }

    /// Runs commands to their end, which is a good one; what they say.
    fn shell(&mut self, commands: &str, place: &str) -> String {
        let (mut bash, said) = self.bash(commands);
        let mut running = Running::start(&mut bash, said);
        let (status, said) = (running.end(), running.said());
        assert!(status.success(), "{place}: {commands}\n{status}\n{said}");
        self.keep_server();
        said
    }

    /// Starts a command that runs on, and waits until it has said what is shown.
    fn start(&mut self, command: &str, sample: &[&str], place: &str) {
        assert!(!sample.is_empty(), "{place}: what does it say first?");
        let (mut bash, said) = self.bash(&format!("exec {command}"));
        let mut running = Running::start(&mut bash, said.clone());
        let like = [sample, &["..."]].concat();
        let shown = sample.join("\n");
        running.wait_until(&format!("{place}: {command} says\n{shown}"), || {
            let text = fs::read_to_string(&said).unwrap();
            let whole = text.rfind('\n').map_or("", |end| &text[..end]);
            is_like(&like, whole)
        });
        if let Some((_, served)) = running.said().split_once("look at http://") {
            self.page = served.lines().next().map(str::to_owned);
        }
        self.running.push(running);
        self.keep_server();
    }

    /// A shell for commands, and the file for what they say. Where the page is served elsewhere than it
    /// is written, it is asked there.
    fn bash(&mut self, commands: &str) -> (Command, PathBuf) {
        self.commands += 1;
        let commands = commands.replace(PAGE, self.page.as_deref().unwrap_or(PAGE));
        let mut bash = command_of(Path::new("bash"), &["-euo", "pipefail", "-c", &commands]);
        for name in ["MARKETDAY_LOG", "MARKETDAY_NAME", "MARKETDAY_TOPIC_PREFIX"] {
            bash.env_remove(name);
        }
        bash.current_dir(&self.dir);
        (bash, self.dir.join(format!("said-{}", self.commands)))
    }

    /// The answer of the store, in the form of `psql`.
    fn query(&mut self, sql: &str, place: &str) -> String {
        let answer = connect(&self.server().config()).simple_query(sql);
        let mut lines = Vec::new();
        for message in answer.unwrap_or_else(|error| panic!("{place}: {sql}\n{error:?}")) {
            match message {
                SimpleQueryMessage::RowDescription(columns) => {
                    let names = columns.iter().map(|column| column.name().to_owned());
                    let names: Vec<String> = names.collect();
                    lines.push(names.join(" | "));
                    lines.push(vec!["-"; names.len()].join("+"));
                }
                SimpleQueryMessage::Row(row) => {
                    let cells = (0..row.len()).map(|cell| row.get(cell).unwrap_or_default());
                    lines.push(cells.collect::<Vec<_>>().join(" | "));
                }
                _ => {}
            }
        }
        lines.join("\n")
    }

    /// Where a command without `--dir` has its things.
    fn data(&self) -> PathBuf {
        self.dir.join("marketday-data")
    }

    fn server(&mut self) -> &PrivatePostgres {
        let data = self.data();
        self.server.get_or_insert_with(|| PrivatePostgres::start(&data).unwrap())
    }

    fn keep_server(&mut self) {
        if self.data().join("postgres").exists() {
            self.server();
        }
    }

    /// Ends what runs on, the newest first, as Ctrl-C does.
    fn end(mut self) {
        while let Some(mut running) = self.running.pop() {
            let status = running.interrupt();
            assert!(status.success(), "{}: {status}\n{}", self.path, running.said());
        }
        if let Some(server) = self.server {
            server.stop().unwrap();
        }
    }
}

/// Reads a profile, or scenarios.
fn check_toml(text: &str, place: &str) {
    let read = if text.contains("[[scenario]]") {
        let profile = Profile::named("year").unwrap();
        Scenario::read(text, &profile.words()).map(drop)
    } else {
        Profile::read(text).map(drop)
    };
    read.unwrap_or_else(|what| panic!("{place}: {what}"));
}

// --- what every document keeps

#[test]
fn every_document_is_run() {
    let mut files = BTreeSet::new();
    for dir in ["", ".github/", "benches/", "docs/", "grafana/"] {
        for file in root().join(dir).read_dir().unwrap() {
            let path = file.unwrap().path();
            if path.extension().is_some_and(|it| it == "md") {
                let name = path.file_name().unwrap().to_str().unwrap();
                files.insert(format!("{dir}{name}"));
            }
        }
    }
    assert_eq!(files, documents().map(str::to_owned).collect());
}

#[test]
fn what_is_in_two_languages_goes_together() {
    for path in ["README.md", "README.ko.md"] {
        let lines = read(path).lines().count();
        assert!(lines <= 200, "{path} has {lines} lines");
    }
    let headings = |text: &str| -> Vec<usize> {
        let lines = prose(text);
        let levels = lines.iter().map(|line| line.chars().take_while(|it| *it == '#').count());
        levels.filter(|level| *level > 0).collect()
    };
    // What is said behind a command may be in Korean.
    let blocks = |text: &str| -> Vec<(Option<String>, String)> {
        let blocks = parts(text).into_iter().filter_map(|part| match part {
            Part::Command(_) => None,
            Part::Block(block) => Some(block),
        });
        let bare = |line: &str| line.split("  #").next().unwrap_or_default().trim_end().to_owned();
        let bare = |text: &str| text.lines().map(bare).collect::<Vec<_>>().join("\n");
        let told = |block: Block| {
            let text = bare(&block.text);
            (block.note, text)
        };
        blocks.map(told).collect()
    };
    for (korean, english) in KOREAN {
        let (korean, english) = (read(korean), read(english));
        assert_eq!(headings(&english), headings(&korean), "the headings' levels");
        assert_eq!(blocks(&english), blocks(&korean));
    }
}

/// A heading as links name it.
fn anchor(heading: &str) -> String {
    let kept = |it: &char| it.is_alphanumeric() || matches!(it, ' ' | '-' | '_');
    let text: String = heading.trim_matches(['#', ' ']).chars().filter(kept).collect();
    text.to_lowercase().replace(' ', "-")
}

#[test]
fn every_link_leads_somewhere() {
    for path in documents() {
        let text = read(path);
        let prose = prose(&text).join("\n");
        for link in prose.split("](").skip(1) {
            let (link, _) = link.split_once(')').unwrap();
            if link.starts_with("https://") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => root().join(path),
                file => root().join(path).parent().unwrap().join(file),
            };
            assert!(target.exists(), "{path} links to {link}, which is not there");
            if !heading.is_empty() {
                let target = fs::read_to_string(&target).unwrap();
                let lines = self::prose(&target);
                let mut headings = lines.iter().filter(|line| line.starts_with('#'));
                let found = headings.any(|line| anchor(line) == heading);
                assert!(found, "{path} links to {link}, which has no such heading");
            }
        }
    }
}

/// Where a path begins that is one of the repository.
const FOLDERS: [&str; 9] = [
    ".ci/",
    ".github/",
    "benches/",
    "dataflows/",
    "docs/",
    "grafana/",
    "migrations/",
    "src/",
    "tests/",
];

#[test]
fn every_path_is_there() {
    for path in documents() {
        let text = read(path);
        for span in prose(&text).iter().flat_map(spans) {
            let file = span.split_whitespace().next().unwrap_or_default();
            let ours = FOLDERS.iter().any(|dir| file.starts_with(dir));
            // The recipe's are to be made, and NAME stands for any.
            if ours && !file.contains("spending") && !file.contains("NAME") {
                assert!(root().join(file).exists(), "{path}: there is no {file}");
            }
        }
    }
}

/// What `--help` says behind those words.
fn help(words: &[&str]) -> String {
    marketday(&[words, &["--help"]].concat())
}

/// The commands that a `--help` lists.
fn commands(help: &str) -> Vec<String> {
    let Some((_, listed)) = help.split_once("\nCommands:\n") else { return Vec::new() };
    let names = listed.lines().take_while(|line| !line.is_empty());
    let names = names.filter_map(|line| line.split_whitespace().next());
    names.filter(|name| *name != "help").map(str::to_owned).collect()
}

/// The flags that a `--help` lists.
fn flags(help: &str) -> BTreeSet<String> {
    let lines = help.lines().map(str::trim).filter(|line| line.starts_with('-'));
    let first = lines.filter_map(|line| line.split_whitespace().find(|it| it.starts_with("--")));
    first.map(|flag| flag.trim_end_matches(',').to_owned()).collect()
}

#[test]
fn every_command_and_flag_is_told_and_no_other() {
    let mut known = flags(&help(&[]));
    let told = read("docs/use.md");
    for command in commands(&help(&[])) {
        assert!(told.contains(&format!("`marketday {command}")), "docs/use.md has no {command}");
        let of_command = help(&[command.as_str()]);
        known.extend(flags(&of_command));
        for part in commands(&of_command) {
            known.extend(flags(&help(&[command.as_str(), part.as_str()])));
        }
    }
    let all = documents().map(read).collect::<Vec<_>>();
    for flag in known.iter().filter(|flag| *flag != "--version") {
        let written = format!("`{flag}");
        assert!(all.iter().any(|text| text.contains(&written)), "no document has {flag}");
    }
    // Older words, which still work; and a flag of `benches/faults`.
    known.extend(["--name", "--whole", "--up"].map(str::to_owned));
    for (path, text) in documents().zip(&all) {
        for span in prose(text).iter().flat_map(spans) {
            let flag = span.split([' ', '=']).next().unwrap_or_default();
            let is_one = flag.starts_with("--") && flag.len() > 2;
            assert!(!is_one || known.contains(flag), "{path}: there is no flag {flag}");
        }
    }
}

#[test]
fn every_table_and_column_is_told() {
    let told = read("docs/tables.md");
    let db = &mut connect(&fresh_database());
    let tables = db
        .query(
            "SELECT relname::text, array_agg(attname::text ORDER BY attnum)
             FROM pg_class
             JOIN pg_namespace AS space ON space.oid = relnamespace
             JOIN pg_attribute ON attrelid = pg_class.oid
             WHERE nspname = current_schema() AND relkind IN ('r', 'v')
               AND attnum > 0 AND NOT attisdropped AND relname <> 'refinery_schema_history'
             GROUP BY relname",
            &[],
        )
        .unwrap();
    let mut names = BTreeSet::new();
    for row in tables {
        let (table, columns): (String, Vec<String>) = (row.get(0), row.get(1));
        let start = format!("| `{table}` |");
        let mut lines = told.lines().filter(|line| line.starts_with(&start));
        let whole = |line: &str| columns.iter().all(|it| line.contains(&format!("`{it}`")));
        assert!(lines.any(whole), "docs/tables.md has no line of {table} with {columns:?}");
        names.insert(table);
    }
    for query in QUERIES {
        assert!(names.contains(query.name), "{} has no table", query.name);
    }
}
