//! What evidence accuses whom.

use super::{
    views::{ShiftEvidence, TurnedEvidence},
    *,
};

fn relu(name: &str, channels: usize, dead: f64, picture_share: f64) -> ReluEvidence {
    ReluEvidence {
        name: name.to_owned(),
        channels,
        dead,
        picture_share,
    }
}

/// A training that goes well, at its end.
fn sound() -> Evidence {
    Evidence {
        moment: Moment {
            steps: 3000,
            share_done: 1.0,
            passes: 20.0,
        },
        setting: Setting {
            learning_rate: 2e-3,
            adaptive: true,
            squared_error: false,
            loss_coefficient: 10.0,
            normalizations: 5,
        },
        input: Some(InputEvidence {
            mean: -0.1,
            deviation: 0.5,
        }),
        boxes: Some(BoxEvidence {
            faces: 500,
            missed: 0.0,
        }),
        views: Some(ViewEvidence {
            faces: 24,
            outside: 0.03,
            round_trip: 1e-6,
            correlation: Some(0.95),
            turned: Some(TurnedEvidence {
                faces: 14,
                labelled: 0.95,
                reversed: 0.3,
            }),
            shifted: Some(ShiftEvidence {
                unshifted: 0.98,
                correlation: 0.98,
                distance: 0.0,
                follows_turn: 0.1,
            }),
        }),
        relus: vec![relu("conv1", 16, 0.1, 0.5), relu("fc1", 128, 0.2, 0.4)],
        gradients: vec![("conv1".to_owned(), 0.1), ("fc2".to_owned(), 0.2)],
        predictions: Some(PredictionEvidence {
            variance_ratio: 0.9,
            mse: 1e-4,
            mean_shape_mse: 2e-3,
        }),
        loss: Some(LossEvidence {
            first: 3.0,
            best: 0.5,
            last: 0.52,
        }),
        relative_step: Some(0.01),
    }
}

/// The same, but every face is answered with the mean face.
fn mean_face() -> Evidence {
    Evidence {
        predictions: Some(PredictionEvidence {
            variance_ratio: 0.01,
            mse: 2.02e-3,
            mean_shape_mse: 2e-3,
        }),
        ..sound()
    }
}

#[test]
fn each_kind_of_evidence_names_its_cause() {
    struct Case {
        what: &'static str,
        change: fn(&mut Evidence),
        from: fn() -> Evidence,
        expected: &'static [Cause],
        number: &'static str,
    }
    fn views(evidence: &mut Evidence) -> &mut ViewEvidence {
        evidence.views.as_mut().expect("views")
    }
    fn case(
        what: &'static str,
        from: fn() -> Evidence,
        change: fn(&mut Evidence),
        expected: &'static [Cause],
        number: &'static str,
    ) -> Case {
        Case {
            what,
            change,
            from,
            expected,
            number,
        }
    }
    let cases = [
        case("sound", sound, |_| {}, &[], ""),
        case("nothing measured", Evidence::default, |_| {}, &[], ""),
        case(
            "0 to 1",
            sound,
            |evidence| {
                evidence.input = Some(InputEvidence {
                    mean: 0.45,
                    deviation: 0.22,
                });
            },
            &[Cause::InputsNotCentered],
            "0.45",
        ),
        case(
            "bytes",
            sound,
            |evidence| {
                evidence.input = Some(InputEvidence {
                    mean: 110.0,
                    deviation: 60.0,
                });
            },
            &[Cause::InputsNotScaled, Cause::InputsNotCentered],
            "60.000",
        ),
        case(
            "boxes",
            sound,
            |evidence| {
                evidence.boxes = Some(BoxEvidence {
                    faces: 400,
                    missed: 0.62,
                });
            },
            &[Cause::WrongBoxes],
            "62 % of 400",
        ),
        case(
            "points outside",
            sound,
            |evidence| views(evidence).outside = 0.4,
            &[Cause::PointsOutsideCrop],
            "40 %",
        ),
        case(
            "opposite senses",
            sound,
            |evidence| {
                let views = views(evidence);
                views.correlation = Some(0.5);
                views.round_trip = 0.06;
                views.turned = Some(TurnedEvidence {
                    faces: 9,
                    labelled: 0.3,
                    reversed: 0.94,
                });
            },
            &[Cause::OppositeRotation],
            "0.94",
        ),
        case(
            "other centre",
            sound,
            |evidence| {
                let views = views(evidence);
                views.correlation = Some(0.2);
                views.shifted = Some(ShiftEvidence {
                    unshifted: 0.6,
                    correlation: 0.95,
                    distance: 0.11,
                    follows_turn: 0.97,
                });
            },
            &[Cause::RotationCenters],
            "11 %",
        ),
        case(
            "crops elsewhere",
            sound,
            |evidence| {
                let views = views(evidence);
                views.correlation = Some(0.1);
                views.shifted = Some(ShiftEvidence {
                    unshifted: 0.4,
                    correlation: 0.95,
                    distance: 0.3,
                    follows_turn: 0.05,
                });
            },
            &[Cause::WrongBoxes],
            "30 %",
        ),
        case(
            "other pictures",
            sound,
            |evidence| views(evidence).correlation = Some(0.05),
            &[Cause::PointsOffFace],
            "0.05",
        ),
        case(
            "dead layer",
            sound,
            |evidence| evidence.relus[0].dead = 0.95,
            &[Cause::DeadRelus],
            "95 % of the channels after conv1",
        ),
        case(
            "rising loss",
            sound,
            |evidence| {
                evidence.relative_step = Some(0.4);
                evidence.loss = Some(LossEvidence {
                    first: 2.0,
                    best: 1.9,
                    last: 9.0,
                });
            },
            &[Cause::LearningRateTooHigh],
            "40 %",
        ),
        case(
            "a likelihood below 0 that still falls",
            sound,
            |evidence| {
                evidence.relative_step = Some(0.2);
                evidence.loss = Some(LossEvidence {
                    first: 2.0,
                    best: -1.5,
                    last: -1.4,
                });
            },
            &[],
            "",
        ),
        case(
            "high rate",
            mean_face,
            |evidence| evidence.relative_step = Some(0.3),
            &[Cause::LearningRateTooHigh],
            "30 %",
        ),
        case(
            "low rate",
            mean_face,
            |evidence| evidence.relative_step = Some(2e-4),
            &[Cause::LearningRateTooLow],
            "2.0e-4",
        ),
        case(
            "lost signal",
            mean_face,
            |evidence| evidence.relus[1].picture_share = 1e-4,
            &[Cause::VanishingSignal],
            "1.00e-4",
        ),
        case(
            "tiny labels",
            mean_face,
            |evidence| {
                evidence.setting.adaptive = false;
                evidence.setting.squared_error = true;
                evidence.setting.loss_coefficient = 1.0;
            },
            &[Cause::TinyLabels],
            "2.0e-3",
        ),
        case(
            "one pass",
            mean_face,
            |evidence| {
                evidence.moment = Moment {
                    steps: 331,
                    share_done: 1.0,
                    passes: 1.0,
                };
            },
            &[Cause::TooFewSteps],
            "331 steps",
        ),
        case(
            "a mean face at the beginning",
            mean_face,
            |evidence| {
                evidence.moment.share_done = 0.1;
                evidence.relative_step = Some(2e-4);
            },
            &[],
            "",
        ),
    ];
    for case in cases {
        let mut evidence = (case.from)();
        (case.change)(&mut evidence);
        let found = diagnose(&evidence);
        let causes: Vec<Cause> = found.iter().map(|finding| finding.cause).collect();
        assert_eq!(causes, case.expected, "{}: {found:?}", case.what);
        if let Some(first) = found.first() {
            assert!(
                first.words.contains(case.number),
                "{}: {}",
                case.what,
                first.words
            );
        }
    }
}

#[test]
fn the_memory_keeps_the_first_the_lowest_and_the_last_block() {
    let mut memory = Memory::default();
    assert_eq!(memory.loss(), None);
    for step in 0..40 {
        let loss = match step {
            0..4 => 8.0,
            20..24 => 1.0,
            _ => 3.0,
        };
        memory.add_loss(loss, 40);
    }
    let loss = memory.loss().expect("ten blocks");
    assert_eq!((loss.first, loss.best, loss.last), (8.0, 1.0, 3.0));
    memory.add_step(0.1);
    memory.add_step(0.02);
    assert_eq!(memory.relative_step, Some(0.1));
}

#[test]
fn input_values_are_measured() {
    assert_eq!(InputEvidence::of(&[]), None);
    let found = InputEvidence::of(&[1.0, 3.0, 1.0, 3.0]).expect("values");
    assert_eq!((found.mean, found.deviation), (2.0, 1.0));
}
