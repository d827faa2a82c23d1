//! The parameters of a plan.

use proto::{
    fec::oti::{RAPTORQ_MAX_BLOCK_SYMBOLS, RaptorQOti, RaptorQParameters},
    trust::{
        campaign::{MAX_SYMBOL_BYTES, MIN_SYMBOL_BYTES},
        plan::PlanShape,
    },
};

use crate::error::{CliError, ExitCode};

/// The options of a plan that an operator sets.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PlanOptions {
    /// T, octets, 64..=1,408.
    pub symbol_size: u16,
    /// Largest source block in symbols that every device of the campaign can decode.
    pub max_block_symbols: u32,
    /// Symbols that are made, in units of the image's own; 1 and more.
    pub factor: f64,
    /// Loss in percent at which tables still arrive, 0..=90.
    pub loss_budget_percent: u8,
}

/// Chooses the shape of the plan for an image of `length` octets.
///
/// # Errors
///
/// [`CliError`] that names the option that cannot be met.
pub fn shape_for(length: u64, options: PlanOptions) -> Result<PlanShape, CliError> {
    let PlanOptions { symbol_size, max_block_symbols, factor, loss_budget_percent } = options;
    let usage = |text: String| ExitCode::Usage.with_message(text);
    if !(MIN_SYMBOL_BYTES..=MAX_SYMBOL_BYTES).contains(&symbol_size) {
        let range = format!("{MIN_SYMBOL_BYTES} to {MAX_SYMBOL_BYTES}");
        return Err(usage(format!("--symbol-size is {symbol_size}, expected {range}")));
    }
    if !(1.0..=100.0).contains(&factor) {
        return Err(usage(format!("--factor is {factor}, expected 1 to 100")));
    }
    let oti = raptorq_oti(length, symbol_size, max_block_symbols)?;
    let repair = repair_for(oti.partition().largest(), factor);
    PlanShape::for_loss(oti, repair, loss_budget_percent)
        .map_err(|error| CliError::wire(ExitCode::Policy, "no plan for this image", error))
}

/// Chooses the FEC parameters of an image of `length` octets: as few blocks as devices can decode,
/// and one sub-block.
///
/// # Errors
///
/// [`CliError`] that names the argument that does not do.
pub fn raptorq_oti(
    length: u64,
    symbol_size: u16,
    max_block_symbols: u32,
) -> Result<RaptorQOti, CliError> {
    if !(1..=RAPTORQ_MAX_BLOCK_SYMBOLS).contains(&max_block_symbols) {
        let range = format!("1 to {RAPTORQ_MAX_BLOCK_SYMBOLS}");
        return Err(ExitCode::Usage.with_message(format!(
            "--max-block-symbols is {max_block_symbols}, expected {range}"
        )));
    }
    if length == 0 {
        return Err(ExitCode::Configuration.with_message("the image is empty"));
    }
    let symbols = length.div_ceil(symbol_size.into());
    let blocks = symbols.div_ceil(max_block_symbols.into());
    let source_blocks = u8::try_from(blocks).map_err(|_| {
        let least = symbols.div_ceil(255);
        ExitCode::Policy.with_message(format!(
            "the image of {length} octets has {symbols} symbols; at most 255 blocks take them with \
             --max-block-symbols {least} or more"
        ))
    })?;
    // spec: rfc6330 4.3
    let alignment = [8, 4, 2].into_iter().find(|al| symbol_size.is_multiple_of((*al).into()));
    RaptorQOti::new(RaptorQParameters {
        transfer_length: length,
        symbol_size,
        source_blocks,
        sub_blocks: 1,
        alignment: alignment.unwrap_or(1),
    })
    .map_err(|error| ExitCode::Policy.with_message(format!("the image cannot be coded: {error}")))
}

/// R = ceil((factor − 1) · K).
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the factor is 1 to 100 and K below 2^16, so the product is a small number"
)]
fn repair_for(symbols: u32, factor: f64) -> u32 {
    // Six digits remain: 1.1 less 1 is a little more than 0.1.
    let exact = (factor - 1.0) * f64::from(symbols);
    ((exact * 1e6).round() / 1e6).ceil() as u32
}

/// Returns the loss in percent up to which one pass is enough for every block.
#[must_use]
pub fn covered_loss_percent(shape: &PlanShape) -> f64 {
    let repair = shape.parameters().repair_per_block;
    let largest = f64::from(shape.partition().largest());
    let sent = largest + f64::from(repair);
    (1.0 - (largest + 2.0) / sent).max(0.0) * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    const OPTIONS: PlanOptions = PlanOptions {
        symbol_size: 1408,
        max_block_symbols: 8192,
        factor: 2.0,
        loss_budget_percent: 30,
    };

    // test: rfc6330 4.3
    #[test]
    fn blocks_are_as_large_as_devices_can_decode_them() {
        let shape = shape_for(60_000_000, OPTIONS).unwrap();
        let parameters = shape.oti().parameters();
        assert_eq!((parameters.source_blocks, parameters.alignment), (6, 8));
        assert!(shape.partition().largest() <= 8192);
        assert_eq!(shape.parameters().repair_per_block, shape.partition().largest());
        assert!((49.0..50.0).contains(&covered_loss_percent(&shape)));
    }

    #[test]
    fn the_smallest_image_has_a_plan() {
        let shape = shape_for(1, OPTIONS).unwrap();
        assert_eq!((shape.leaves(), shape.segments()), (2, 1));
        assert!(covered_loss_percent(&shape).abs() < f64::EPSILON);
    }

    #[test]
    fn repair_follows_the_factor() {
        for (factor, expected) in [(1.0, 0), (1.1, 100), (1.25, 250), (2.0, 1000), (3.0001, 2001)] {
            assert_eq!(repair_for(1000, factor), expected, "{factor}");
        }
    }

    // test: rfc6330 4.3
    #[test]
    fn an_option_that_cannot_be_met_is_named() {
        for (length, options, exit, word) in [
            (0, OPTIONS, ExitCode::Configuration, "empty"),
            (9, PlanOptions { symbol_size: 63, ..OPTIONS }, ExitCode::Usage, "--symbol-size"),
            (9, PlanOptions { symbol_size: 1409, ..OPTIONS }, ExitCode::Usage, "--symbol-size"),
            (
                9,
                PlanOptions { max_block_symbols: 0, ..OPTIONS },
                ExitCode::Usage,
                "--max-block-symbols",
            ),
            (
                9,
                PlanOptions { max_block_symbols: 56_404, ..OPTIONS },
                ExitCode::Usage,
                "--max-block",
            ),
            (9, PlanOptions { factor: 0.9, ..OPTIONS }, ExitCode::Usage, "--factor"),
            (9, PlanOptions { factor: f64::NAN, ..OPTIONS }, ExitCode::Usage, "--factor"),
            (
                9,
                PlanOptions { loss_budget_percent: 91, ..OPTIONS },
                ExitCode::Policy,
                "loss budget",
            ),
            (1408 * 8192 * 255 + 1, OPTIONS, ExitCode::Policy, "--max-block-symbols 8193"),
        ] {
            let error = shape_for(length, options).unwrap_err();
            assert_eq!(error.exit_code(), exit, "{error}");
            assert!(error.to_string().contains(word), "{error}");
        }
        let longest = shape_for(1408 * 8192 * 255, OPTIONS).unwrap();
        assert_eq!(longest.oti().parameters().source_blocks, 255);
    }

    // test: rfc6330 4.3
    #[test]
    fn alignment_follows_the_symbol_size() {
        for (symbol_size, alignment) in [(64, 8), (100, 4), (102, 2), (101, 1)] {
            let shape = shape_for(1000, PlanOptions { symbol_size, ..OPTIONS }).unwrap();
            assert_eq!(shape.oti().parameters().alignment, alignment);
        }
    }
}
