//! Sessions: each request keeps its session for another fifteen minutes, and none lasts longer than eight
//! hours, however busy. The database is asked once per session, and told when it ends. What requests store in
//! their session is kept with it, and does not prolong the eight hours.
//!
//! Run it with `cargo run --example session`; the hours pass by a manual clock.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::{Cache, Clock, LoadCx, Loaded, Loader, Removal, RemovalCause};
use rusqlite::{Connection, OptionalExtension};

const IDLE: Duration = Duration::from_secs(15 * 60);
const LONGEST: Duration = Duration::from_secs(8 * 3_600);

#[derive(Clone, Debug)]
struct Session {
    user: String,
    requests: u32,
}

#[derive(Clone)]
struct Sessions(Arc<Mutex<Connection>>);

impl Loader<String, Session> for Sessions {
    type Error = rusqlite::Error;

    fn load(&self, token: &String, _: &LoadCx<Session>) -> rusqlite::Result<Loaded<Session>> {
        println!("  the database is asked for {token}");
        let sql = "SELECT user FROM session WHERE token = ?";
        let db = self.0.lock().unwrap();
        let user = db.query_row(sql, [token], |row| row.get(0)).optional()?;
        Ok(user.map(|user| Session { user, requests: 0 }).into()) // `None` is an answer too
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let db = Connection::open_in_memory()?;
    db.execute_batch(
        "CREATE TABLE session (token TEXT PRIMARY KEY, user TEXT);
         INSERT INTO session VALUES ('a1', 'ada'), ('b2', 'bob');",
    )?;
    let table = Sessions(Arc::new(Mutex::new(db)));
    let ended = table.clone();
    let (clock, hand) = Clock::manual(); // leave it out in a server
    let sessions = Cache::builder()
        .max_entries(100_000)
        .time_to_idle(IDLE)
        .time_to_live(LONGEST)
        .negative_ttl(Duration::from_secs(10)) // tokens that somebody made up
        .on_removal(move |session: Removal<String, Session>| {
            if session.cause == RemovalCause::Expired {
                println!("  the session of {} is over", session.value.user);
                let sql = "DELETE FROM session WHERE token = ?";
                let _ = ended.0.lock().unwrap().execute(sql, [session.key]);
            }
        })
        .clock(clock)
        .build_loading(table)?;

    println!("ada works all day, a request every ten minutes; bob leaves after the first");
    assert_eq!(sessions.load("b2")?.user, "bob");
    let mut requests = 0;
    while let Ok(session) = sessions.load("a1") {
        assert_eq!((session.user.as_str(), session.requests), ("ada", requests));
        // two requests at once count as two
        let one_more = |session: Session| Session { requests: session.requests + 1, ..session };
        let session = sessions.at("a1").keep_life().alter(|session| session.map(one_more));
        requests = session.map_or(requests, |session| session.requests);
        hand.advance(Duration::from_secs(10 * 60));
        sessions.sweep(); // in a server this happens by itself
    }
    println!("after {requests} requests, eight hours in all, ada has to log in again");
    assert_eq!(requests, 48);
    assert!(sessions.load("made up").unwrap_err().is_not_found());
    assert!(sessions.load("b2").unwrap_err().is_not_found());
    Ok(())
}
