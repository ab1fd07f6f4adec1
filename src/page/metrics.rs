//! `/metrics`: how the pipeline does, for Prometheus, from the store.

use std::fmt::Write as _;

use anyhow::Result;
use postgres::Client;

/// What is told: name, kind, help, and the query that has a label text and a number in each row.
const METRICS: [(&str, &str, &str, &str); 17] = [
    (
        "marketday_market_time_seconds",
        "gauge",
        "Market time of the results, as seconds since 1970.",
        "SELECT '', extract(epoch FROM now)::float8 FROM commit_points
         WHERE now IS NOT NULL ORDER BY epoch DESC LIMIT 1",
    ),
    (
        "marketday_commit_point",
        "gauge",
        "The newest commit point.",
        "SELECT '', max(epoch)::float8 FROM commit_points HAVING count(*) > 0",
    ),
    (
        "marketday_committed_timestamp_seconds",
        "gauge",
        "When it was committed, by the wall clock, as seconds since 1970.",
        "SELECT '', extract(epoch FROM max(committed_at))::float8 FROM commit_points
         HAVING count(*) > 0",
    ),
    (
        "marketday_commit_seconds",
        "gauge",
        "How long its transaction took.",
        "SELECT '', extract(epoch FROM committed_at - began_at)::float8 FROM commit_points
         WHERE began_at IS NOT NULL ORDER BY epoch DESC LIMIT 1",
    ),
    (
        "marketday_events_total",
        "counter",
        "Records of the log by their outcome (`became` is an older word for it).",
        "SELECT format('topic=\"%s\",partition=\"%s\",outcome=\"%s\",became=\"%3$s\"', topic, partition,
                outcome), n::float8
         FROM commit_offsets,
              LATERAL (VALUES ('counted', counted), ('duplicate', duplicate), ('dead', dead),
                              ('heartbeat', heartbeat)) AS fate (outcome, n)
         ORDER BY 1",
    ),
    (
        "marketday_log_end_offset",
        "gauge",
        "The offset after the newest record of a partition.",
        "SELECT format('topic=\"%s\",partition=\"%s\"', topic, partition), log_end::float8
         FROM pipeline_status ORDER BY 1",
    ),
    (
        "marketday_committed_offset",
        "gauge",
        "The offset up to which a partition is committed.",
        "SELECT format('topic=\"%s\",partition=\"%s\"', topic, partition), committed::float8
         FROM pipeline_status ORDER BY 1",
    ),
    (
        "marketday_lag_records",
        "gauge",
        "Records of a partition that are not committed yet.",
        "SELECT format('topic=\"%s\",partition=\"%s\"', topic, partition), lag::float8
         FROM pipeline_status ORDER BY 1",
    ),
    (
        "marketday_wait_seconds",
        "gauge",
        "How long the analytics have waited for what is not theirs, while they do.",
        "SELECT format('what=\"%s\",place=\"%s\"', what, place),
                extract(epoch FROM clock_timestamp() - since)::float8
         FROM current_waits ORDER BY 1",
    ),
    (
        "marketday_behind_furthest_seconds",
        "gauge",
        "Market time by which a partition of orders is behind the furthest one.",
        "SELECT format('partition=\"%s\"', partition), extract(epoch FROM behind)::float8
         FROM times_reached WHERE behind IS NOT NULL ORDER BY 1",
    ),
    (
        "marketday_resident_memory_bytes",
        "gauge",
        "Memory of the process that reads most.",
        "SELECT '', max(memory_bytes)::float8 FROM pipeline_status HAVING count(*) > 0",
    ),
    (
        "marketday_reported_timestamp_seconds",
        "gauge",
        "When the analytics told of themselves last, as seconds since 1970.",
        "SELECT '', extract(epoch FROM max(written_at))::float8 FROM pipeline_status
         HAVING count(*) > 0",
    ),
    (
        "marketday_broker_partitions",
        "gauge",
        "Partitions of which a broker keeps a copy.",
        "SELECT format('broker=\"%s\"', broker), partitions::float8 FROM broker_status ORDER BY 1",
    ),
    (
        "marketday_broker_in_sync_partitions",
        "gauge",
        "Copies in sync among them; 0 where the broker is gone.",
        "SELECT format('broker=\"%s\"', broker), in_sync::float8 FROM broker_status ORDER BY 1",
    ),
    (
        "marketday_standing_views",
        "gauge",
        "Standing views by their state.",
        "SELECT format('state=\"%s\"', state), count(name)::float8
         FROM (VALUES ('adding'), ('live'), ('failed'), ('ended')) AS known (state)
         LEFT JOIN (SELECT name, coalesce(state, 'adding') AS state
                    FROM standing_views LEFT JOIN standing_view_states USING (name)
                    WHERE NOT dropped) AS view USING (state)
         GROUP BY 1 ORDER BY 1",
    ),
    (
        "marketday_standing_view_records",
        "gauge",
        "Records that are held in memory for a standing view.",
        "SELECT format('view=\"%s\"', name), records::float8 FROM standing_view_costs ORDER BY 1",
    ),
    (
        "marketday_view_alerts",
        "gauge",
        "Rows of a standing view that are alerts, up to 100.",
        "SELECT format('view=\"%s\"', name), count(alert.text)::float8
         FROM standing_views AS view LEFT JOIN view_alerts AS alert USING (name)
         WHERE view.alert AND NOT dropped GROUP BY 1 ORDER BY 1",
    ),
];

/// The metrics in Prometheus' text format.
pub(crate) fn metrics(client: &mut Client) -> Result<String> {
    let mut text = String::new();
    let mut tx = client.build_transaction().read_only(true).start()?;
    for (name, kind, help, sql) in METRICS {
        write!(text, "# HELP {name} {help}\n# TYPE {name} {kind}\n")?;
        for row in tx.query(sql, &[])? {
            let (labels, value): (&str, f64) = (row.get(0), row.get(1));
            match labels {
                "" => writeln!(text, "{name} {value}")?,
                labels => writeln!(text, "{name}{{{labels}}} {value}")?,
            }
        }
    }
    tx.commit()?;
    Ok(text)
}
