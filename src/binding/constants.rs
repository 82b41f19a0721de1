//! The numbers that Rust and JavaScript must agree on.

use super::counters::POOL_FIGURES;
use super::number::narrow;
use super::remote::RemoteState;
use crate::pool::{
    BlockState, COLUMNS_PER_ROW, Column, Fate, Figures, HEAD_COLUMNS, IDLE_ALLOWANCE,
    MAX_BLOCK_SIZE, RowColumn, SEGMENT_SHIFT, SegmentColumn, SizeClass, Tick,
};
use napi_derive::napi;
use std::collections::HashMap;
use std::fmt::Debug;

/// The shape of the counters, and the block sizes: `lib/` needs it to count and to find a class.
#[napi(object)]
pub struct Layout {
    /// The block size of each class, the smallest first, in bytes.
    pub block_sizes: Vec<u32>,
    /// The largest block, in bytes.
    pub max_block_size: u32,
    /// By how many bits the number of a row holds its segment's number shifted.
    pub segment_shift: u32,
    /// Columns at the head of a segment, before its rows.
    pub head_columns: u32,
    /// Columns of each row.
    pub columns_per_row: u32,
    /// The bytes that may be idle however little was in use lately.
    pub idle_allowance: u32,
}

/// Returns the layout of this build.
#[napi]
pub fn layout() -> Layout {
    Layout {
        block_sizes: SizeClass::all().map(|class| narrow(class.block_size())).collect(),
        max_block_size: narrow(MAX_BLOCK_SIZE),
        segment_shift: SEGMENT_SHIFT,
        head_columns: narrow(HEAD_COLUMNS),
        columns_per_row: narrow(COLUMNS_PER_ROW),
        idle_allowance: narrow(IDLE_ALLOWANCE),
    }
}

/// The names of one enum's variants, with their numbers.
type Numbers = HashMap<String, i32>;

/// Every named number that crosses the boundary. `lib/` has its own copies as constants, which V8
/// compiles into its code; `__test__/cache/constants.test.js` compares the two.
#[napi(object)]
pub struct Constants {
    pub block_state: Numbers,
    pub column: Numbers,
    pub segment_column: Numbers,
    pub row_column: Numbers,
    pub fate: Numbers,
    pub tick: Numbers,
    pub remote_state: Numbers,
    /// The figures of a class, in the order in which `stats` writes them.
    pub class_figures: Vec<String>,
    /// The figures that only the pool as a whole has, in the same way.
    pub pool_figures: Vec<String>,
}

/// Returns the numbers of this build.
#[napi]
pub fn constants() -> Constants {
    let words = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Constants {
        block_state: numbers(BlockState::ALL, |state| state as i32),
        column: numbers(Column::ALL, |column| column as i32),
        segment_column: numbers(SegmentColumn::ALL, |column| column as i32),
        row_column: numbers(RowColumn::ALL, |column| column as i32),
        fate: numbers(Fate::ALL, |fate| fate as i32),
        tick: numbers(Tick::ALL, |tick| tick as i32),
        remote_state: numbers(RemoteState::ALL, |state| state as i32),
        class_figures: words(&Figures::COLUMNS.map(|(name, _)| name)),
        pool_figures: words(&POOL_FIGURES),
    }
}

fn numbers<T: Copy + Debug, const N: usize>(all: [T; N], number: fn(T) -> i32) -> Numbers {
    all.into_iter().map(|variant| (format!("{variant:?}"), number(variant))).collect()
}
