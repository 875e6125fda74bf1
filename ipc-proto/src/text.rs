//! A short piece of text in a message: for people, or a name that somebody typed.

use core::fmt;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// At most [`Text::LONGEST`] bytes of UTF-8; on the wire a postcard string.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    len: u8,
    bytes: [u8; Self::LONGEST],
}

impl Text {
    /// The most bytes.
    pub const LONGEST: usize = 200;

    /// No text.
    #[must_use]
    pub const fn empty() -> Self {
        Self { len: 0, bytes: [0; Self::LONGEST] }
    }

    /// `text`, cut where it is too long.
    #[must_use]
    pub fn cut(text: &str) -> Self {
        let mut whole = Self::empty();
        whole.append(text);
        whole
    }

    /// What it says.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only whole characters are ever put in.
        self.bytes.get(..usize::from(self.len)).and_then(|bytes| core::str::from_utf8(bytes).ok()).unwrap_or_default()
    }

    fn append(&mut self, text: &str) {
        for letter in text.chars() {
            let start = usize::from(self.len);
            let Some(room) = self.bytes.get_mut(start..start + letter.len_utf8()) else { return };
            self.len += letter.encode_utf8(room).len() as u8;
        }
    }
}

impl fmt::Write for Text {
    /// Cuts what is too long.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.append(text);
        Ok(())
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.as_str().fmt(f)
    }
}

impl Serialize for Text {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;
        impl Visitor<'_> for Reader {
            type Value = Text;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {} bytes of text", Text::LONGEST)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Text, E> {
                if text.len() > Text::LONGEST {
                    return Err(E::invalid_length(text.len(), &self));
                }
                Ok(Text::cut(text))
            }
        }
        deserializer.deserialize_str(Reader)
    }
}

#[cfg(test)]
mod tests {
    use super::Text;
    use crate::wire;
    use core::fmt::Write;

    #[test]
    fn what_is_too_long_is_cut_between_two_characters() {
        let mut text = Text::cut("éé");
        for _ in 0..Text::LONGEST {
            text.write_str("xé").expect("it never fails");
        }
        assert_eq!(text.as_str().len(), Text::LONGEST);
        assert!(text.as_str().starts_with("ééxéxé") && text.as_str().ends_with('x'));
    }

    #[test]
    fn more_than_it_holds_is_no_message() {
        let mut bytes = [b'x'; Text::LONGEST + 3];
        (bytes[0], bytes[1]) = (0x80 | (Text::LONGEST + 1) as u8 & 0x7f, ((Text::LONGEST + 1) >> 7) as u8);
        assert!(wire::decode::<Text>(&bytes).is_err());
        bytes[0] -= 1;
        assert!(
            wire::decode::<Text>(&bytes[..Text::LONGEST + 2]).is_ok_and(|text| text.as_str().len() == Text::LONGEST)
        );
        assert!(wire::decode::<Text>(&[1, 0xff]).is_err(), "no UTF-8");
    }
}
