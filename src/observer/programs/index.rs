//! Which of many rules may claim a process, without asking each: every rule stands under one thing that must be there for it to
//! match, the rarest it has, and only those whose thing is there are asked.

use rustc_hash::{FxHashMap, FxHashSet};

use crate::config::literals;

use super::rule::{FIELDS, Field, Rule, Test, Texts};

/// Three bytes that follow each other.
type Gram = u32;

/// A thing that must be there.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Key {
    /// This is the whole text of a fact.
    Whole(Field, Box<[u8]>),
    /// These three bytes stand in it.
    Part(Field, Gram),
}

/// The index.
#[derive(Debug, Default)]
pub struct Index {
    whole: [FxHashMap<Box<[u8]>, Vec<u32>>; FIELDS],
    part: [Parts; FIELDS],
    /// Rules of which nothing is known that must be there: they are always asked. Ascending.
    always: Vec<u32>,
}

/// Rules under three bytes, and a table of bits before it: nearly all of a text's are nobody's.
#[derive(Debug, Default)]
struct Parts {
    bits: Vec<u64>,
    rules: FxHashMap<Gram, Vec<u32>>,
}

/// Bits of a table, and its words.
const BITS: u32 = 16;
const WORDS: usize = (1 << BITS) / 64;

const fn bit(gram: Gram) -> (usize, u64) {
    let hash = gram.wrapping_mul(0x9e37_79b1) >> (32 - BITS);
    ((hash >> 6) as usize, 1 << (hash & 63))
}

impl Parts {
    fn add(&mut self, gram: Gram, rule: u32) {
        self.bits.resize(WORDS, 0);
        let (word, mask) = bit(gram);
        if let Some(word) = self.bits.get_mut(word) {
            *word |= mask;
        }
        self.rules.entry(gram).or_default().push(rule);
    }

    fn find(&self, text: &[u8], found: &mut Vec<u32>) {
        let mut seen = FxHashSet::default();
        for gram in grams(text) {
            let (word, mask) = bit(gram);
            if self.bits.get(word).is_some_and(|word| word & mask != 0)
                && let Some(rules) = self.rules.get(&gram)
                && seen.insert(gram)
            {
                found.extend_from_slice(rules);
            }
        }
    }
}

fn grams(text: &[u8]) -> impl Iterator<Item = Gram> {
    text.windows(3).map(|window| window.iter().fold(0, |gram, byte| gram << 8 | Gram::from(*byte)))
}

impl Index {
    /// Of these rules, in their order.
    #[must_use]
    pub fn new(rules: &[Rule]) -> Self {
        let choices: Vec<Vec<Vec<Vec<Key>>>> = rules.iter().map(choices).collect();
        let mut counts: FxHashMap<&Key, usize> = FxHashMap::default();
        for key in choices.iter().flatten().flatten().flatten() {
            *counts.entry(key).or_default() += 1;
        }
        let count = |key: &&Key| counts.get(key).copied().unwrap_or(0);
        let mut index = Self::default();
        for (choices, number) in choices.iter().zip(0..) {
            // Of each alternative its rarest key; of the conditions the one whose keys are the rarest together.
            let best = choices
                .iter()
                .filter_map(|alternatives| alternatives.iter().map(|keys| keys.iter().min_by_key(count)).collect::<Option<Vec<_>>>())
                .min_by_key(|keys| keys.iter().map(count).sum::<usize>());
            match best {
                Some(keys) => keys.into_iter().for_each(|key| index.add(key, number)),
                None => index.always.push(number),
            }
        }
        index
    }

    fn add(&mut self, key: &Key, number: u32) {
        match key {
            Key::Whole(field, text) => self.whole[*field as usize].entry(text.clone()).or_default().push(number),
            Key::Part(field, gram) => self.part[*field as usize].add(*gram, number),
        }
    }

    /// The rules that may match, ascending.
    #[must_use]
    pub fn candidates(&self, texts: &Texts<'_>) -> Vec<u32> {
        let mut found = Vec::new();
        for ((whole, part), text) in self.whole.iter().zip(&self.part).zip(texts.all()) {
            let Some(text) = text else { continue };
            if let Some(rules) = whole.get(text) {
                found.extend_from_slice(rules);
            }
            if !part.rules.is_empty() {
                part.find(text, &mut found);
            }
        }
        found.extend_from_slice(&self.always);
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// For each condition under which a rule could stand: for each of its alternatives the keys of which all must be there.
fn choices(rule: &Rule) -> Vec<Vec<Vec<Key>>> {
    let parts = |field, runs: &[Vec<u8>]| runs.iter().flat_map(|run| grams(run)).map(|gram| Key::Part(field, gram)).collect::<Vec<_>>();
    rule.conditions
        .iter()
        .filter_map(|condition| match &condition.test {
            Test::Exact(text) => Some(vec![vec![Key::Whole(condition.field, text.clone())]]),
            Test::Glob(glob, _) => Some(vec![parts(condition.field, &glob.literals())]),
            Test::Regex(lazy) => Some(literals::required(lazy.pattern())?.iter().map(|runs| parts(condition.field, runs)).collect()),
        })
        .collect()
}
