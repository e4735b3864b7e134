//! Greets whoever the event names: the event is on standard input, the answer on
//! standard output, and what is written to standard error becomes the log.

use std::env;
use std::error::Error;
use std::io::{self, Read};

fn main() -> Result<(), Box<dyn Error>> {
    let mut event = String::new();
    io::stdin().read_to_string(&mut event)?;
    let name = event.trim();
    eprintln!("{} greeting '{}'", env::var("FC_REQUEST_ID")?, name);
    if name.is_empty() {
        return Err("there is nobody to greet".into());
    }
    print!("Hello, {}!", name);
    Ok(())
}
