//! Compiles the migrations, the dashboards and the web page in again when one of them changes.

fn main() {
    for embedded in ["migrations", "grafana/dashboards", "src/page/web"] {
        println!("cargo:rerun-if-changed={embedded}");
    }
}
