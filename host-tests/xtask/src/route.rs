//! Where a compiler for a target without an operating system comes from: a pure choice from facts.

use std::fmt;

use crate::version::Version;

/// What `rust-version` in Cargo.toml asks for.
pub const RUST_VERSION: Version = Version(1, 95, 0);

/// What is built with a route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// The filter: wasm32-wasip1.
    Wasm,
    /// A microcontroller: proof that the policy core needs no std.
    NoStd,
}

impl Target {
    /// As rustc calls it.
    #[must_use]
    pub const fn triple(self) -> &'static str {
        match self {
            Self::Wasm => "wasm32-wasip1",
            Self::NoStd => "thumbv7em-none-eabi",
        }
    }
}

/// How a target gets its standard library.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// Nothing is built: `PORTCULLIS_WASM` names the module.
    Given,
    /// The active toolchain has the target.
    Installed,
    /// `rustup target add` gets it.
    Rustup,
    /// Debian's rustc and its sources, with `-Zbuild-std`.
    Debian,
}

impl Route {
    /// The value of `PORTCULLIS_WASM_ROUTE` that forces a route.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::Installed, Self::Rustup, Self::Debian]
            .into_iter()
            .find(|route| route.to_string() == name)
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Given => "given",
            Self::Installed => "installed",
            Self::Rustup => "rustup",
            Self::Debian => "debian",
        })
    }
}

/// The facts that a route is chosen from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// `PORTCULLIS_WASM` is set, and the target is the module.
    pub given: bool,
    /// The active toolchain has the target's standard library.
    pub installed: bool,
    /// There is a rustup to ask.
    pub rustup: bool,
    /// Debian's parts.
    pub debian: Debian,
}

impl Found {
    /// In a few words, for people.
    #[must_use]
    pub fn summary(&self, target: Target) -> String {
        let yes = |there| if there { "yes" } else { "no" };
        let missing = self.debian.missing(target);
        let debian = match (missing.is_empty(), self.debian.can_install) {
            (true, _) => "yes".to_owned(),
            (false, true) => format!("can install {}", missing.join(" ")),
            (false, false) => format!("lacks {}", missing.join(" ")),
        };
        let (installed, rustup) = (yes(self.installed), yes(self.rustup));
        format!("installed: {installed}, rustup: {rustup}, debian: {debian}")
    }
}

/// What there is of Debian's toolchain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Debian {
    /// Version of `/usr/bin/rustc`.
    pub rustc: Option<Version>,
    /// The sources of its standard library.
    pub sources: bool,
    /// A linker for wasm, by the name it has on PATH.
    pub linker: Option<String>,
    /// The C library for WASI.
    pub libc: bool,
    /// We are root on Debian, so that missing packages can be installed.
    pub can_install: bool,
}

impl Debian {
    /// The packages that are still needed for `target`.
    #[must_use]
    pub fn missing(&self, target: Target) -> Vec<&'static str> {
        let wasm = matches!(target, Target::Wasm);
        [
            // An older rustc is Debian's `rustc`, which `rustc-web` replaces.
            (
                "rustc-web",
                self.rustc.is_some_and(|version| version >= RUST_VERSION),
            ),
            ("rust-web-src", self.sources),
            ("lld-19", !wasm || self.linker.is_some()),
            ("wasi-libc", !wasm || self.libc),
        ]
        .into_iter()
        .filter_map(|(package, there)| (!there).then_some(package))
        .collect()
    }
}

/// Why no route can be taken, and the ways to open one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remedy {
    /// What is missing.
    pub why: String,
    /// What to run, one of these.
    pub fixes: Vec<String>,
}

/// Takes the forced route if there is one, and otherwise the cheapest that is open. A route whose
/// last step turns out to fail is tried again by choosing from the facts without it.
///
/// # Errors
///
/// When the forced route, or every route, is closed.
pub fn choose(target: Target, found: &Found, forced: Option<Route>) -> Result<Route, Remedy> {
    let open = |route: &Route| match route {
        Route::Given => found.given,
        Route::Installed => found.installed,
        Route::Rustup => found.rustup,
        Route::Debian => found.debian.can_install || found.debian.missing(target).is_empty(),
    };
    if let Some(route) = forced {
        return if open(&route) {
            Ok(route)
        } else {
            Err(Remedy {
                why: format!(
                    "the route `{route}` is forced by PORTCULLIS_WASM_ROUTE, and it is closed"
                ),
                fixes: vec![
                    fix(target, found, route),
                    "unset PORTCULLIS_WASM_ROUTE".to_owned(),
                ],
            })
        };
    }
    [Route::Given, Route::Installed, Route::Rustup, Route::Debian]
        .into_iter()
        .find(open)
        .ok_or_else(|| Remedy {
            why: format!("there is no standard library for {}", target.triple()),
            fixes: vec![
                fix(target, found, Route::Installed),
                fix(target, found, Route::Debian),
            ],
        })
}

/// The one line that opens a route.
fn fix(target: Target, found: &Found, route: Route) -> String {
    match route {
        Route::Given => "set PORTCULLIS_WASM to a built module".to_owned(),
        Route::Installed => format!("rustup target add {}", target.triple()),
        Route::Rustup => "install rustup (https://rustup.rs)".to_owned(),
        Route::Debian => {
            let missing = found.debian.missing(target).join(" ");
            format!("sudo apt-get install -y {missing} (Debian)")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPLETE: Debian = Debian {
        rustc: Some(RUST_VERSION),
        sources: true,
        linker: None,
        libc: true,
        can_install: false,
    };

    fn complete() -> Debian {
        Debian {
            linker: Some("wasm-ld-19".to_owned()),
            ..COMPLETE
        }
    }

    /// Every combination of what can be found.
    fn worlds() -> Vec<Found> {
        let mut worlds = Vec::new();
        for bits in 0..64_u8 {
            let is = |bit: u8| bits & (1 << bit) != 0;
            worlds.push(Found {
                given: is(0),
                installed: is(1),
                rustup: is(2),
                debian: Debian {
                    can_install: is(5),
                    ..if is(3) {
                        complete()
                    } else {
                        Debian {
                            libc: is(4),
                            ..Debian::default()
                        }
                    }
                },
            });
        }
        worlds
    }

    #[test]
    fn the_cheapest_open_route_wins() {
        let found = |given, installed, rustup, debian| Found {
            given,
            installed,
            rustup,
            debian,
        };
        let none = Debian::default();
        let root = Debian {
            can_install: true,
            ..Debian::default()
        };
        for (world, expected) in [
            (found(true, true, true, complete()), Route::Given),
            (found(false, true, true, complete()), Route::Installed),
            (found(false, false, true, complete()), Route::Rustup),
            (found(false, false, false, complete()), Route::Debian),
            (found(false, false, false, root), Route::Debian),
        ] {
            assert_eq!(
                choose(Target::Wasm, &world, None),
                Ok(expected),
                "{world:?}"
            );
        }
        let remedy = choose(Target::Wasm, &found(false, false, false, none), None).unwrap_err();
        assert_eq!(
            remedy.fixes,
            [
                "rustup target add wasm32-wasip1",
                "sudo apt-get install -y rustc-web rust-web-src lld-19 wasi-libc (Debian)",
            ]
        );
    }

    #[test]
    fn a_forced_route_is_taken_or_refused_but_never_replaced() {
        for world in worlds() {
            for route in [Route::Installed, Route::Rustup, Route::Debian] {
                let open = match route {
                    Route::Given => world.given,
                    Route::Installed => world.installed,
                    Route::Rustup => world.rustup,
                    Route::Debian => world.debian.can_install || world.debian.linker.is_some(),
                };
                match choose(Target::Wasm, &world, Some(route)) {
                    Ok(chosen) => assert!(open && chosen == route, "{world:?}"),
                    Err(remedy) => {
                        assert!(
                            !open && remedy.why.contains(&route.to_string()),
                            "{world:?}"
                        );
                    }
                }
            }
        }
    }

    /// Closing the chosen route leads to another one or to a remedy, so trying again ends.
    #[test]
    fn falling_through_ends() {
        for mut world in worlds() {
            let mut tried = Vec::new();
            while let Ok(route) = choose(Target::Wasm, &world, None) {
                assert!(!tried.contains(&route), "{route} twice in {world:?}");
                tried.push(route);
                match route {
                    Route::Given => world.given = false,
                    Route::Installed => world.installed = false,
                    Route::Rustup => world.rustup = false,
                    Route::Debian => world.debian = Debian::default(),
                }
            }
            let remedy = choose(Target::Wasm, &world, None).unwrap_err();
            assert!(remedy.fixes.iter().all(|fix| !fix.is_empty()));
        }
    }

    #[test]
    fn an_old_rustc_of_debian_is_a_missing_one() {
        let old = Debian {
            rustc: Some(Version(1, 63, 0)),
            ..complete()
        };
        assert_eq!(old.missing(Target::Wasm), ["rustc-web"]);
        let world = Found {
            debian: old,
            ..Found::default()
        };
        assert!(choose(Target::Wasm, &world, Some(Route::Debian)).is_err());
    }

    #[test]
    fn a_microcontroller_needs_neither_linker_nor_libc() {
        let debian = Debian {
            libc: false,
            ..COMPLETE
        };
        assert_eq!(debian.missing(Target::NoStd), [""; 0]);
        assert_eq!(debian.missing(Target::Wasm), ["lld-19", "wasi-libc"]);
    }

    #[test]
    fn routes_have_names() {
        for route in [Route::Installed, Route::Rustup, Route::Debian] {
            assert_eq!(Route::named(&route.to_string()), Some(route));
        }
        assert_eq!(Route::named("given"), None);
        assert_eq!(Route::named(""), None);
    }
}
