//! What an image says of the containers that are made from it. The engine takes over what a request leaves open; an image is
//! anybody's word, so it is held to the bounds of a request.

use super::containers::CreateContainer;
use crate::domain::confines::{is_dockers_label, is_label, is_our_label, kernels_folder};
use crate::domain::{Healthcheck, limits};

/// The part of an image's configuration that a container takes over and that has bounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageConfig {
    /// The keys.
    pub labels: Vec<String>,
    /// Empty where it names none.
    pub workdir: String,
    pub healthcheck: Option<Healthcheck>,
}

/// Fills in what the request leaves to the image, as far as the image's word is within the bounds of a request.
///
/// # Errors
/// Why no container is made from the image without a `workdir` of its own.
pub fn confine(request: &mut CreateContainer, image: ImageConfig) -> Result<(), String> {
    if let (None, Some(folder)) = (&request.workdir, kernels_folder(&image.workdir)) {
        return Err(format!("the image's working folder {:?} is not available: {folder} is the kernel's", image.workdir));
    }
    // A label of an image cannot be taken away, only emptied.
    for key in image.labels.into_iter().filter(|key| !is_label(key) || is_our_label(key) || is_dockers_label(key)) {
        request.labels.entry(key).or_default();
    }
    request.healthcheck = healthcheck(request.healthcheck.take(), image.healthcheck);
    Ok(())
}

/// The request's, with the image's for what it leaves open: the engine would do the same, without the bounds.
fn healthcheck(own: Option<Healthcheck>, image: Option<Healthcheck>) -> Option<Healthcheck> {
    let Some(image) = image.map(bounded) else { return own };
    let Some(own) = own else { return Some(image) };
    Some(Healthcheck {
        interval_ms: own.interval_ms.or(image.interval_ms),
        timeout_ms: own.timeout_ms.or(image.timeout_ms),
        start_period_ms: own.start_period_ms.or(image.start_period_ms),
        retries: own.retries.or(image.retries),
        test: own.test,
    })
}

fn bounded(check: Healthcheck) -> Healthcheck {
    let span = |millis: u64| millis.clamp(limits::CHECK_SHORTEST_MS, limits::CHECK_LONGEST_MS);
    Healthcheck {
        interval_ms: check.interval_ms.map(span),
        timeout_ms: check.timeout_ms.map(span),
        start_period_ms: check.start_period_ms.map(|millis| millis.min(limits::CHECK_LONGEST_MS)),
        retries: check.retries.map(|retries| retries.clamp(1, limits::CHECK_RETRIES)),
        test: check.test,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(interval_ms: Option<u64>, retries: Option<u32>) -> Healthcheck {
        let test = vec!["CMD".to_owned(), "true".to_owned()];
        Healthcheck { test, interval_ms, timeout_ms: None, start_period_ms: Some(u64::MAX), retries }
    }

    #[test]
    fn an_images_check_is_held_to_the_bounds_also_beside_ones_own() {
        let day = Some(limits::CHECK_LONGEST_MS);
        let image = Some(check(Some(1), Some(1_000_000)));
        let expected = Healthcheck { start_period_ms: day, ..check(Some(1000), Some(100)) };
        assert_eq!(healthcheck(None, image.clone()), Some(expected));
        let own = Healthcheck { start_period_ms: None, ..check(None, Some(2)) };
        let expected = Healthcheck { start_period_ms: day, ..check(Some(1000), Some(2)) };
        assert_eq!(healthcheck(Some(own.clone()), image), Some(expected));
        assert_eq!((healthcheck(Some(own.clone()), None), healthcheck(None, None)), (Some(own), None));
    }
}
