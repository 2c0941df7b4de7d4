//! Text from elsewhere (a server's error, a version, a state) on its way to a terminal or a log: it
//! must not steer the terminal, forge a line, or fill the screen.

use crate::limits;

/// The text on one line, at most [`limits::FOREIGN_TEXT_CHARS_MAX`] characters, as it may be shown.
///
/// White space of any kind and length becomes one space; control characters, bidirectional marks
/// and other invisible characters are escaped (`\u{1b}`), so that words stay apart and it shows
/// what was there. A text that was cut ends with `…`.
pub fn printable(text: &str) -> String {
    let mut shown = String::new();
    let mut chars = 0;
    let mut piece = String::new();
    let mut gap = false;
    // What stays, in bytes, when there turns out to be more than fits.
    let mut kept = 0;
    for c in text.chars() {
        if c.is_whitespace() {
            gap = true;
            continue;
        }
        piece.clear();
        if gap && !shown.is_empty() {
            piece.push(' ');
        }
        gap = false;
        match is_hidden(c) {
            true => piece.extend(c.escape_unicode()),
            false => piece.push(c),
        }
        chars += piece.chars().count();
        if chars > limits::FOREIGN_TEXT_CHARS_MAX {
            shown.truncate(kept);
            shown.push('…');
            break;
        }
        shown.push_str(&piece);
        if chars < limits::FOREIGN_TEXT_CHARS_MAX {
            kept = shown.len();
        }
    }
    shown
}

/// Whether a character does something to a display other than to appear on it.
fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(c,
            // Bidirectional marks, embeddings, overrides and isolates.
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
            // No width: soft hyphen, zero-width space and joiners, word joiner and invisible
            // operators, deprecated formatting, variation selectors, byte order mark,
            // interlinear annotation, tags.
            | '\u{ad}' | '\u{180e}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2065}'
            | '\u{206a}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e0fff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is() {
        for text in ["", "MySQL 9.7.4 \"c:\\data\"", "größer, 数据库 недоступна"] {
            assert_eq!(printable(text), text);
        }
    }

    #[test]
    fn nothing_steers_the_terminal_and_words_stay_apart() {
        for (text, shown) in [
            ("two\r\nlines", "two lines"),
            (" \t spaced\u{a0}\u{2028}out \n", "spaced out"),
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("a\0b\u{7f}c\u{9b}d", "a\\u{0}b\\u{7f}c\\u{9b}d"),
            ("abc\u{202e}txt.exe", "abc\\u{202e}txt.exe"),
            ("\u{2066}x\u{2069}\u{200f}", "\\u{2066}x\\u{2069}\\u{200f}"),
            ("a\u{feff}\u{e0041}", "a\\u{feff}\\u{e0041}"),
        ] {
            assert_eq!(printable(text), shown, "{text:?}");
        }
    }

    #[test]
    fn a_long_text_is_cut_between_characters_and_escapes() {
        let longest = "ü".repeat(limits::FOREIGN_TEXT_CHARS_MAX);
        assert_eq!(printable(&longest), longest);
        for text in [
            longest.clone() + "ü",
            longest.clone() + " x",
            "\u{1b}".repeat(100_000),
            "x\u{202e}".repeat(100),
            "xx".to_owned() + &"\u{1b}".repeat(100),
        ] {
            let shown = printable(&text);
            assert!(shown.chars().count() <= limits::FOREIGN_TEXT_CHARS_MAX);
            let uncut = shown.strip_suffix('…').expect("it was cut");
            assert_eq!(uncut.matches('{').count(), uncut.matches('}').count());
        }
        assert_eq!(printable(&(longest + " \n\n")).chars().last(), Some('ü'));
    }
}
