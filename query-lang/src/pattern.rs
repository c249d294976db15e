//! What `=~` means: the pattern matches the whole value, and `.` also matches a line break.
//!
//! Invariant: a pattern that the parser accepted compiles here. The engine compiles patterns by this
//! function only, so that the language and the label index agree.

use regex::Regex;

/// Compiles a pattern that has to match the whole value. The error is one line.
pub fn whole_value(pattern: &str) -> Result<Regex, String> {
    // Alone first: `a)(b` is no pattern, though it would be one inside the group below.
    Regex::new(pattern).and_then(|_| Regex::new(&format!("^(?s:{pattern})$"))).map_err(|error| {
        let text = error.to_string();
        let last = text.lines().last().unwrap_or_default();
        last.trim().trim_start_matches("error: ").to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::whole_value;

    #[test]
    fn patterns_match_whole_values() {
        let web = whole_value("web|db").unwrap();
        assert!(web.is_match("web") && web.is_match("db"));
        assert!(!web.is_match("web1") && !web.is_match("mydb"));
        assert!(whole_value("a.b").unwrap().is_match("a\nb"));
        assert!(whole_value("").unwrap().is_match(""));
    }

    #[test]
    fn bad_patterns_say_why_in_one_line() {
        assert_eq!(whole_value("web-(").unwrap_err(), "unclosed group");
        assert_eq!(whole_value("a)(b").unwrap_err(), "unopened group");
        assert!(whole_value("(?x)a #").is_err());
    }
}
