//! Logistic regression over places: AdaGrad, with the ridge penalty applied once an epoch, from a fixed seed.

/// One URL as the places of its features
#[derive(Clone, Debug)]
pub(crate) struct Example {
    pub(crate) places: Vec<u32>,
    pub(crate) phish: bool,
    pub(crate) weight: f32,
    /// Which intercept it has: bare hosts and URLs with a path differ in how common phishing is among them, and
    /// that must not become a feature
    pub(crate) kind: usize,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) epochs: u32,
    /// Of the steps
    pub(crate) rate: f32,
    /// Ridge penalty by region: dimensions, suffixes, host grams, path grams
    pub(crate) ridge: [f32; 4],
}

/// Fits, and returns the weights: intercepts are not part of the model, thresholds take their place; `regions` are the lengths of the regions, `bounds` the least and the greatest weight of each place
pub(crate) fn fit(
    examples: &[Example],
    order: &[usize],
    regions: [usize; 4],
    settings: &Settings,
    bounds: &[(f32, f32)],
) -> Vec<f32> {
    let total: usize = regions.iter().sum();
    let mut weights = vec![0f32; total];
    let mut squares = vec![1e-6f32; total];
    let mut intercepts = [0f32; 3];
    let mut intercept_squares = [1e-6f32; 3];
    let mut order = order.to_vec();
    let mut random = 0x1234_5678_9abc_def0u64;
    let mut region_of = Vec::with_capacity(total);
    for (region, length) in regions.iter().enumerate() {
        region_of.extend(std::iter::repeat_n(region, *length));
    }
    for epoch in 0..settings.epochs {
        shuffle(&mut order, &mut random);
        let rate = settings.rate * (1.0 - 0.9 * epoch as f32 / settings.epochs as f32);
        for example in order.iter().filter_map(|i| examples.get(*i)) {
            let intercept = intercepts.get(example.kind).copied().unwrap_or(0.0);
            let sum = sum(&weights, &example.places) + intercept;
            let truth = f32::from(u8::from(example.phish));
            let error = (sigmoid(sum) - truth) * example.weight;
            if error.abs() < 1e-5 {
                continue;
            }
            for place in &example.places {
                let place = *place as usize;
                if let (Some(weight), Some(square)) =
                    (weights.get_mut(place), squares.get_mut(place))
                {
                    *square += error * error;
                    *weight -= rate * error / square.sqrt();
                }
            }
            if let (Some(weight), Some(square)) = (
                intercepts.get_mut(example.kind),
                intercept_squares.get_mut(example.kind),
            ) {
                *square += error * error;
                *weight -= rate * error / square.sqrt();
            }
        }
        let places = weights.iter_mut().zip(&squares).zip(&region_of).zip(bounds);
        for (((weight, square), region), (least, greatest)) in places {
            let ridge = settings.ridge.get(*region).copied().unwrap_or(0.0);
            *weight /= 1.0 + rate * ridge / square.sqrt();
            *weight = weight.clamp(*least, *greatest);
        }
    }
    weights
}

fn sum(weights: &[f32], places: &[u32]) -> f32 {
    places
        .iter()
        .filter_map(|place| weights.get(*place as usize))
        .sum()
}

fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

fn shuffle(order: &mut [usize], random: &mut u64) {
    for i in (1..order.len()).rev() {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        let other = usize::try_from(random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap_or(0);
        order.swap(i, other.checked_rem(i.saturating_add(1)).unwrap_or(0));
    }
}
