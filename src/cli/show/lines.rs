//! How a record is written: as the journal's text, as its JSON, or as CSV.

use super::super::table;
use crate::journal::line::{Line, Names};
use crate::journal::{json, text};
use crate::record::escape;
use crate::record::moment::Moment;
use crate::record::schema::{Column, Kind, Threshold};
use crate::record::stream::Stream;
use crate::record::value::Value;

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// As text lines of the journal.
    Text,
    /// As JSON lines of the journal.
    Json,
    /// RFC 4180.
    Csv,
}

/// A column that is written, and where its values are.
#[derive(Clone, Debug)]
struct Cell {
    name: String,
    column: &'static Column,
    place: Place,
}

#[derive(Clone, Copy, Debug)]
enum Place {
    Time,
    Value(usize),
    /// This segment does not have it.
    Nowhere,
}

/// The columns of rows to come.
#[derive(Clone, Debug)]
pub struct Layout {
    stream: Stream,
    form: Form,
    cells: Vec<Cell>,
}

const fn of_later_version(kind: Kind) -> Column {
    Column { name: "", aliases: &[], kind, width: 1, threshold: Threshold::Any, standard: false, meaning: "" }
}

static WORD: Column = of_later_version(Kind::Word);
static TEXT: Column = of_later_version(Kind::Text);
static CMD: Column = of_later_version(Kind::Cmd);
const NO_VALUE: &Value = &Value::Absent;

impl Layout {
    /// Of a segment with these columns; where some were asked for, of those.
    #[must_use]
    pub fn new(stream: Stream, form: Form, names: &Names, asked: &[&'static Column]) -> Self {
        let place = |name: &str| match names.position(name) {
            None => Place::Nowhere,
            Some(at) => at.checked_sub(1).map_or(Place::Time, Place::Value),
        };
        let mut cells: Vec<Cell> = if asked.is_empty() {
            let column = |name: &crate::journal::line::Name| match (name.column, name.kind()) {
                (Some(column), _) => column,
                (None, Kind::Cmd) => &CMD,
                (None, Kind::Text) => &TEXT,
                (None, _) => &WORD,
            };
            names.0.iter().map(|name| Cell { name: name.name.clone(), column: column(name), place: place(&name.name) }).collect()
        } else {
            asked.iter().map(|column| Cell { name: column.name.to_owned(), column, place: place(column.name) }).collect()
        };
        if form == Form::Text {
            // Free text runs to the end of the line.
            cells.sort_by_key(|cell| cell.column.kind.is_free());
        }
        Self { stream, form, cells }
    }

    /// What stands above the rows.
    #[must_use]
    pub fn heading(&self) -> Vec<u8> {
        let names = |between| self.cells.iter().map(|cell| &cell.name[..]).collect::<Vec<_>>().join(between);
        match self.form {
            Form::Text => format!("#cols {}\n", names(" ")).into_bytes(),
            Form::Json => Vec::new(),
            Form::Csv => format!("{}\r\n", names(",")).into_bytes(),
        }
    }

    /// Appends a row.
    pub fn row(&self, time: Moment, values: &[Value], out: &mut Vec<u8>) {
        let time = Value::Word(self.time(time).into());
        let cells = self.cells.iter().map(|cell| {
            let value = match cell.place {
                Place::Time => &time,
                Place::Value(at) => values.get(at).unwrap_or(NO_VALUE),
                Place::Nowhere => NO_VALUE,
            };
            (&cell.name[..], cell.column, value)
        });
        match self.form {
            Form::Json => json::write_cells(self.stream.name(), cells.map(|(name, column, value)| (name, column.kind, value)), out),
            Form::Text => text::write_cells(cells.map(|(_, column, value)| (column, value)), out),
            Form::Csv => {
                let mut buffer = Vec::new();
                for (at, (_, column, value)) in cells.enumerate() {
                    if at > 0 {
                        out.push(b',');
                    }
                    table::write_csv(column, value, &mut buffer, out);
                }
                out.extend_from_slice(b"\r\n");
            }
        }
    }

    /// Appends what is no row and no header; in CSV there is nothing else.
    pub fn other(&self, line: &Line, out: &mut Vec<u8>) {
        let stream = self.stream.name();
        match (line, self.form) {
            (Line::Gone { time, id, why }, Form::Text) => text::write_gone(&self.time(*time), id, why, out),
            (Line::Gone { time, id, why }, Form::Json) => {
                let id = escape::read_word(id.as_bytes()).unwrap_or_else(|| id.clone().into_bytes());
                json::write_gone(stream, &self.time(*time), &id, why, out);
            }
            (Line::Note { time, kind, text }, Form::Text) => text::write_note(*time, kind, text, out),
            (Line::Note { time, kind, text }, Form::Json) => json::write_note(stream, *time, kind, text, out),
            (Line::Tick(tick), form @ (Form::Text | Form::Json)) => {
                let fields: Vec<(&str, String)> = tick.fields.iter().map(|(name, value)| (&name[..], value.clone())).collect();
                let mut time = Vec::new();
                tick.time.write(3, &mut time);
                if form == Form::Text {
                    text::write_tick(&time, &fields, out);
                    text::end_tick(tick.crc, out);
                } else {
                    json::write_tick(stream, &time, &fields, out);
                    json::end_tick(tick.crc, out);
                }
            }
            _ => {}
        }
    }

    fn time(&self, time: Moment) -> Vec<u8> {
        let mut text = Vec::with_capacity(35);
        time.write(if self.stream.has_samples() { 3 } else { 9 }, &mut text);
        text
    }
}
