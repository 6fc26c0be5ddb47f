//! What a line of the journal says, whichever format it is written in.

use crate::record::moment::Moment;
use crate::record::schema::{self, Column, Kind};
use crate::record::stream::Stream;
use crate::record::value::Value;

/// The columns of a segment as its header names them. A later version may name some that this one does not know.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Names(pub Vec<Name>);

/// One column by its name.
#[derive(Clone, Debug, PartialEq)]
pub struct Name {
    /// As written.
    pub name: String,
    /// Its description, where this version has one.
    pub column: Option<&'static Column>,
}

impl Name {
    /// Looks the name up.
    #[must_use]
    pub fn new(stream: Option<Stream>, name: &str) -> Self {
        let known = stream.and_then(|stream| schema::columns(stream).iter().find(|column| column.name == name));
        Self { name: name.to_owned(), column: known }
    }

    /// What its values are; of an unknown column words.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self.column {
            Some(column) => column.kind,
            None if self.name == "cmd" => Kind::Cmd,
            None if self.name == "text" => Kind::Text,
            None => Kind::Word,
        }
    }
}

impl Names {
    /// The names of a `#cols` line.
    #[must_use]
    pub fn parse(stream: Option<Stream>, text: &str) -> Self {
        Self(text.split_ascii_whitespace().map(|name| Name::new(stream, name)).collect())
    }

    /// Where a column stands.
    #[must_use]
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().position(|column| column.name == name)
    }
}

/// What begins a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The format's version.
    pub version: u32,
    /// The stream's name.
    pub stream: String,
    /// The segment's number.
    pub seg: u64,
    /// `key=value`s, in order.
    pub fields: Vec<(String, String)>,
    /// The columns' names.
    pub columns: Vec<String>,
    /// A sentence for whoever reads the file itself.
    pub help: String,
}

/// The end of a sample.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tick {
    /// When it was due.
    pub time: Moment,
    /// `key=value`s, in order, without `crc`.
    pub fields: Vec<(String, String)>,
    /// CRC-32 of what the tick closes.
    pub crc: u32,
}

impl Tick {
    /// A field by its key.
    #[must_use]
    pub fn field(&self, key: &str) -> Option<&str> {
        self.fields.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    /// A whole number by its key.
    #[must_use]
    pub fn count(&self, key: &str) -> Option<u64> {
        self.field(key)?.parse().ok()
    }
}

/// One line.
#[derive(Clone, Debug, PartialEq)]
pub enum Line {
    /// The header: in text its first line, without columns and help, which follow.
    Header(Header),
    /// The names of the columns, in text.
    Columns(Vec<String>),
    /// The sentence for the reader, in text.
    Help(String),
    /// A row.
    Row {
        /// The column `time`.
        time: Moment,
        /// The columns after it.
        values: Vec<Value>,
    },
    /// Something left the stream.
    Gone {
        /// When.
        time: Moment,
        /// Who, as written.
        id: String,
        /// Why.
        why: String,
    },
    /// The end of a sample.
    Tick(Tick),
    /// The recorder about itself.
    Note {
        /// When.
        time: Moment,
        /// Of what kind.
        kind: String,
        /// Its `key=value`s.
        text: String,
    },
}
