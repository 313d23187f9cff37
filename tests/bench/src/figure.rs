//! Figures as text.

/// A whole number with its thousands set apart: `1,234,567`.
#[must_use]
pub(crate) fn grouped(figure: f64) -> String {
    let digits = format!("{:.0}", figure.abs());
    let mut text = String::new();
    if figure <= -0.5 {
        text.push('-');
    }
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// With three digits that count: `0.256`, `1.25`, `12.8`, `317`, `4,321`.
#[must_use]
pub(crate) fn micros(figure: f64) -> String {
    match figure.abs() {
        size if size < 0.9995 => format!("{figure:.3}"),
        size if size < 9.995 => format!("{figure:.2}"),
        size if size < 99.95 => format!("{figure:.1}"),
        _ => grouped(figure),
    }
}

/// Bytes as MiB.
#[must_use]
pub(crate) fn mebibytes(bytes: f64) -> String {
    micros(bytes / (1024.0 * 1024.0))
}

/// So many rounds.
pub(crate) fn rounds(count: u32) -> String {
    match count {
        1 => "1 round".to_owned(),
        more => format!("{more} rounds"),
    }
}
