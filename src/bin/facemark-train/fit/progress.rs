//! What a person sees of a training: a bar on a terminal, a line now and then elsewhere.

use facemark::train::fit::{Event, Ready, StepEvent};
use indicatif::{ProgressBar, ProgressStyle};
use std::{
    io::IsTerminal,
    time::{Duration, Instant},
};

/// Time between two lines where there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

pub(crate) struct ProgressPrinter {
    bar: Option<ProgressBar>,
    total_steps: u64,
    done_steps: u64,
    epochs: u64,
    began: Instant,
    last_line: Instant,
}

impl ProgressPrinter {
    pub(crate) fn new() -> Self {
        Self {
            bar: None,
            total_steps: 0,
            done_steps: 0,
            epochs: 0,
            began: Instant::now(),
            last_line: Instant::now(),
        }
    }

    pub(crate) fn event(&mut self, event: &Event<'_>) {
        match event {
            Event::Ready(ready) => self.ready(ready),
            Event::Step(step) => self.step(step),
            Event::Diagnosis { findings, .. } => {
                for finding in *findings {
                    self.line(&format!("warning: {}", finding.words));
                }
            }
            Event::Epoch {
                record,
                warning,
                best,
            } => {
                let result = record
                    .validation
                    .as_ref()
                    .map_or_else(String::new, |validation| validation.in_words());
                self.line(&format!(
                    "epoch {}/{}: loss {:.4}, {result}{}",
                    record.epoch,
                    self.epochs,
                    record.loss,
                    if *best { " (best so far)" } else { "" }
                ));
                if let Some(warning) = warning {
                    self.line(&format!("  warning: {warning}"));
                }
            }
        }
    }

    /// Takes the bar away.
    pub(crate) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }

    fn ready(&mut self, ready: &Ready) {
        for set in &ready.sets {
            eprintln!("data: {} ({} training examples)", set.name, set.examples);
        }
        if ready.skipped_count > 0 {
            eprintln!("skipped {} records, for instance:", ready.skipped_count);
            for reason in &ready.skipped {
                eprintln!("  {reason}");
            }
        }
        eprintln!(
            "{} parameters, {} steps of {} an epoch, validation on {}, on {}",
            ready.parameters,
            ready.total_steps,
            ready.steps_per_epoch,
            ready.validation_cases,
            ready.device
        );
        self.total_steps = ready.total_steps;
        self.done_steps = ready.done_steps;
        self.epochs = ready.total_steps / ready.steps_per_epoch.max(1) as u64;
        self.began = Instant::now();
        if std::io::stderr().is_terminal() {
            let bar = ProgressBar::new(ready.total_steps).with_position(ready.done_steps);
            let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {msg}, {eta} left");
            bar.set_style(style.expect("the template is valid"));
            self.bar = Some(bar);
        }
    }

    fn step(&mut self, step: &StepEvent) {
        let words = format!(
            "epoch {}/{}, loss {:.4}, {:.0} pictures/s",
            step.epoch, self.epochs, step.loss, step.pictures_per_second
        );
        if let Some(bar) = &self.bar {
            bar.set_position(step.step);
            bar.set_message(words);
            return;
        }
        let first = step.step == self.done_steps + 1;
        if first || self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let done = (step.step - self.done_steps) as f64;
            let left = (self.total_steps - step.step) as f64;
            let seconds = self.began.elapsed().as_secs_f64() / done * left;
            eprintln!(
                "step {}/{}: {words}, {} left",
                step.step,
                self.total_steps,
                in_minutes(seconds)
            );
        }
    }

    fn line(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.println(text),
            None => eprintln!("{text}"),
        }
    }
}

fn in_minutes(seconds: f64) -> String {
    if seconds < 90.0 {
        format!("{seconds:.0} s")
    } else {
        format!("{:.0} min", seconds / 60.0)
    }
}
