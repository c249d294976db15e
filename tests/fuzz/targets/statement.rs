//! Any text as WQL: what parses prints to text that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    match query_lang::parse(text) {
        Ok(script) => {
            let printed = script.to_string();
            let again = query_lang::parse(&printed).unwrap_or_else(|error| panic!("{printed}: {error}"));
            assert_eq!(script, again, "{printed}");
        }
        Err(error) => drop(error.render()),
    }
});
