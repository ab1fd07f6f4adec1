//! A start goes on from a checkpoint where the store confirms it, and else reads all back, with a sentence.

use std::fs;
use std::path::PathBuf;

use postgres::Client;

use crate::crash::Place;
use crate::support::Running;

const FLAGS: [&str; 11] = [
    "--history",
    "20d",
    "--start",
    "2026-11-27",
    "--seed",
    "7",
    "--speed",
    "3000",
    "--checkpoint",
    "200ms",
    "--log=info,marketday::engine=debug",
];

const GOES_ON: &str = "the analytics go on from a checkpoint";
const READS_BACK: &str = "the analytics' state is read back from the store";

/// The newest commit point of which there is a checkpoint.
fn newest(client: &mut Client) -> i64 {
    let sql = "SELECT coalesce(max(epoch), 0) FROM (
                   SELECT epoch FROM checkpoints GROUP BY epoch HAVING count(*) = max(workers)) AS complete";
    client.query_one(sql, &[]).unwrap().get(0)
}

/// The directory of the one store.
fn of_store(place: &Place) -> PathBuf {
    let mut stores = fs::read_dir(place.dir.join("checkpoint")).unwrap();
    stores.next().unwrap().unwrap().path()
}

/// The files of all checkpoints.
fn files(place: &Place) -> Vec<PathBuf> {
    let files = fs::read_dir(of_store(place)).unwrap();
    let files = files.map(|file| file.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|it| it == "kept")).collect()
}

/// Runs until there is a new checkpoint and more is committed behind it; it has to begin as it says.
fn runs_on(place: &mut Place, flags: &[&str], begins: &str) -> Running {
    let mut client = place.client();
    let before = newest(&mut client);
    let mut running = place.start_with(flags, None);
    running.wait_until("there is a new checkpoint", || newest(&mut client) > before);
    let taken = newest(&mut client);
    running.wait_until("more is committed", || {
        let sql = "SELECT epoch > $1 FROM progress";
        client.query_one(sql, &[&taken]).unwrap().get(0)
    });
    assert!(running.said().contains(begins), "{flags:?}: no `{begins}`\n{}", running.said());
    running
}

fn killed(place: &mut Place, mut running: Running, how: &str) {
    running.kill();
    place.killed(how);
}

/// With other numbers of workers, too; and whatever was cut off.
#[test]
fn a_start_goes_on_wherever_the_one_before_was_killed() {
    let mut place = Place::new(&FLAGS);
    marketday::store::migrate::run(&place.server.config()).unwrap();
    // The first has nothing to go on from, and nothing to say of it.
    let running = runs_on(&mut place, &[], "the history is over");
    assert!(!running.said().contains(GOES_ON) && !running.said().contains(READS_BACK));
    killed(&mut place, running, "the first time");
    for workers in ["2", "3", "2", "1", "1"] {
        let running = runs_on(&mut place, &["-w", workers], GOES_ON);
        killed(&mut place, running, &format!("with {workers} workers"));
    }
    for point in ["checkpoint-file:2", "checkpoint-manifest:2", "checkpoint-line:3", "hydration:3"]
    {
        let running = place.start_with(&["-w", "2"], Some(point));
        place.crashes_at(point, running);
        let running = runs_on(&mut place, &["-w", "2"], GOES_ON);
        killed(&mut place, running, &format!("after {point}"));
    }
    // Asked to stop, it has one more at the end.
    let mut running = runs_on(&mut place, &[], GOES_ON);
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
    let mut client = place.client();
    let committed: i64 = client.query_one("SELECT epoch FROM progress", &[]).unwrap().get(0);
    assert_eq!(newest(&mut client), committed);
    let running = runs_on(&mut place, &[], GOES_ON);
    killed(&mut place, running, "after it was asked to stop");
}

/// What is done to a place, and the sentence of the next start.
type Harm = (&'static str, fn(&Place));

fn harm(place: &Place, change: impl Fn(&mut Vec<u8>)) {
    for path in files(place) {
        let mut bytes = fs::read(&path).unwrap();
        change(&mut bytes);
        fs::write(&path, bytes).unwrap();
    }
}

#[test]
fn anything_else_is_read_back_with_a_sentence() {
    let harms: [Harm; 8] = [
        ("is not what was written", |place| {
            harm(place, |bytes| bytes[100] ^= 1);
        }),
        ("is not what was written", |place| {
            harm(place, |bytes| {
                let index = bytes.len() - 40;
                bytes[index] ^= 16;
            });
        }),
        ("is not what was written", |place| {
            harm(place, |bytes| bytes.truncate(bytes.len() - 1));
        }),
        ("opening", |place| {
            for path in files(place) {
                fs::remove_file(path).unwrap();
            }
        }),
        ("is no checkpoint", |place| {
            fs::write(of_store(place).join("worker-0.json"), "{\"form\": 1}").unwrap();
        }),
        ("there is no checkpoint in", |place| {
            fs::remove_dir_all(place.dir.join("checkpoint")).unwrap();
            place.client().batch_execute("DELETE FROM checkpoints").unwrap();
        }),
        // As a store that was brought back from an older copy.
        ("is of another commit point", |place| {
            place
                .client()
                .batch_execute("UPDATE commit_points SET checksum = checksum + 1")
                .unwrap();
        }),
        ("another version of this program", |place| {
            place.client().batch_execute("UPDATE checkpoints SET form = 'of old'").unwrap();
        }),
    ];
    let mut place = Place::new(&FLAGS);
    marketday::store::migrate::run(&place.server.config()).unwrap();
    let running = runs_on(&mut place, &[], "the history is over");
    killed(&mut place, running, "the first time");
    for (sentence, harm) in harms {
        harm(&place);
        let running = runs_on(&mut place, &[], READS_BACK);
        assert!(running.said().contains(sentence), "no `{sentence}`\n{}", running.said());
        killed(&mut place, running, sentence);
        let running = runs_on(&mut place, &[], GOES_ON);
        killed(&mut place, running, &format!("once more, after `{sentence}`"));
    }
    // Another engine has kept fewer tables meanwhile: the others are of an earlier time.
    runs_on(&mut place, &["--tables", "orders_by_minute"], READS_BACK).kill();
    let running = runs_on(&mut place, &[], READS_BACK);
    killed(&mut place, running, "with all tables again");
    // A commit that finds that somebody has changed a table takes the checkpoints away.
    place.client().batch_execute("DELETE FROM sales_by_month").unwrap();
    let mut running = place.start_with(&[], None);
    assert_eq!(running.end().code(), Some(1), "{}", running.said());
    assert!(running.said().contains("somebody else has changed the table"), "{}", running.said());
    let running = runs_on(&mut place, &[], READS_BACK);
    killed(&mut place, running, "with the table that was changed");
}

/// Where no file can be written the analytics go on, and say once what that means.
#[test]
fn without_a_place_for_them_there_are_none() {
    let place = Place::new(&FLAGS);
    fs::create_dir_all(&place.dir).unwrap();
    fs::write(place.dir.join("checkpoint"), "in the way").unwrap();
    marketday::store::migrate::run(&place.server.config()).unwrap();
    let mut client = place.client();
    let mut running = place.start_with(&[], None);
    running.wait_for_history();
    let now = "SELECT coalesce(now > '2026-11-27 02:00+09', false) FROM progress";
    running.wait_until("it is live", || client.query_one(now, &[]).unwrap().get(0));
    assert_eq!(running.interrupt().code(), Some(0), "{}", running.said());
    let said = running.said();
    assert_eq!(said.matches("a checkpoint cannot be written").count(), 1, "{said}");
    place.verify("without checkpoints");
}
