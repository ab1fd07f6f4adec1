//! What a custom operator keeps, told to whoever profiles the worker.

use differential_dataflow::logging::{BatcherEvent, DifferentialEventBuilder, Logger};
use timely::dataflow::Scope;
use timely::dataflow::operators::generic::OperatorInfo;

use crate::Epoch;

/// Tells differential's own log how many records an operator keeps, as differential's arrangements
/// do: it does not see our hash maps. Costs nothing while nobody has registered for that log.
///
/// What only waits for its epoch to close is not counted.
pub(crate) struct StateSize {
    logger: Option<Logger>,
    operator: usize,
    records: usize,
}

impl StateSize {
    pub(crate) fn by(scope: Scope<'_, Epoch>, operator: &OperatorInfo) -> StateSize {
        let logger = scope.worker().logger_for::<DifferentialEventBuilder>("differential/arrange");
        StateSize { logger: logger.map(Into::into), operator: operator.global_id, records: 0 }
    }

    /// Tells how many records are kept now, if that has changed.
    pub(crate) fn tell(&mut self, records: impl FnOnce() -> usize) {
        let Some(logger) = &self.logger else { return };
        let records = records();
        if records != self.records {
            logger.log(BatcherEvent {
                operator: self.operator,
                records_diff: records as isize - self.records as isize,
                size_diff: 0,
                capacity_diff: 0,
                allocations_diff: 0,
            });
            self.records = records;
        }
    }
}
