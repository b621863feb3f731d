//! The instruction set in use: the best that the machine has, or the one `CROSSENT_ISA` names.

use std::sync::LazyLock;

use fearless_simd::Level;

use crate::error::Error;

static SELECTED: LazyLock<Result<Level, String>> = LazyLock::new(|| {
    let text = std::env::var_os("CROSSENT_ISA").unwrap_or_default().to_string_lossy().into_owned();
    match text.trim() {
        "" => Ok(available()[0].1),
        name => by_name(name).ok_or(text),
    }
});

/// The name of the instruction set that all kernels of this process run on.
///
/// # Errors
/// [`Error::UnknownIsa`] if `CROSSENT_ISA` names one that does not exist or that this machine lacks.
pub fn selected_isa() -> Result<&'static str, Error> {
    selected().map(name)
}

/// The names of the instruction sets of this machine that kernels are compiled for, best first.
#[must_use]
pub fn available_isas() -> Vec<&'static str> {
    available().into_iter().map(|(name, _)| name).collect()
}

/// The level all kernels of this process run on.
///
/// # Errors
/// [`Error::UnknownIsa`] if `CROSSENT_ISA` names a level that does not exist or that this machine lacks.
pub(crate) fn selected() -> Result<Level, Error> {
    SELECTED.clone().map_err(|name| Error::UnknownIsa { name, available: available_isas() })
}

/// The levels of this machine with their names, best first.
#[must_use]
pub(crate) fn available() -> Vec<(&'static str, Level)> {
    let best = Level::new();
    let mut levels = Vec::new();
    #[cfg(target_arch = "x86_64")]
    {
        levels.extend(best.as_avx512().map(|t| ("avx512", Level::Avx512(t))));
        levels.extend(best.as_avx2().map(|t| ("avx2", Level::Avx2(t))));
        #[cfg(not(disable_dispatch_sse4_2))]
        levels.extend(best.as_sse4_2().map(|t| ("sse4.2", Level::Sse4_2(t))));
        levels.extend(best.as_sse2().map(|t| ("sse2", Level::Sse2(t))));
    }
    #[cfg(target_arch = "aarch64")]
    levels.extend(best.as_neon().map(|t| ("neon", Level::Neon(t))));
    // Where a vector unit is part of the baseline, the scalar level is not compiled in.
    if best.is_fallback() {
        levels.push(("fallback", best));
    }
    levels
}

/// The name of a level, as `CROSSENT_ISA` spells it.
#[must_use]
pub(crate) fn name(level: Level) -> &'static str {
    match level {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512(_) => "avx512",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2(_) => "avx2",
        #[cfg(all(target_arch = "x86_64", not(disable_dispatch_sse4_2)))]
        Level::Sse4_2(_) => "sse4.2",
        #[cfg(target_arch = "x86_64")]
        Level::Sse2(_) => "sse2",
        #[cfg(target_arch = "aarch64")]
        Level::Neon(_) => "neon",
        _ => "fallback",
    }
}

fn by_name(name: &str) -> Option<Level> {
    available().into_iter().find(|(known, _)| *known == name).map(|(_, level)| level)
}

/// Whether the level multiplies and adds with one rounding. Known when the kernel is compiled.
#[inline(always)]
pub(crate) fn has_fma(level: Level) -> bool {
    #[cfg(target_arch = "x86_64")]
    return level.as_avx2().is_some();
    #[cfg(target_arch = "aarch64")]
    return level.as_neon().is_some();
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    {
        let _ = level;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_levels_are_inverse() {
        for (known, level) in available() {
            assert_eq!(name(level), known);
            assert_eq!(by_name(known).map(name), Some(known));
        }
        assert!(by_name("mmx").is_none());
    }

    #[test]
    fn the_best_level_comes_first() {
        let order = ["avx512", "avx2", "sse4.2", "sse2", "neon", "fallback"];
        let places: Vec<_> =
            available_isas().iter().map(|name| order.iter().position(|known| known == name)).collect();
        assert!(!places.is_empty() && places.is_sorted() && places.iter().all(Option::is_some));
    }
}
