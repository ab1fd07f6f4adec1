// Are the dashboards what Grafana's own published types say? Give it a directory in which
// `npm install @grafana/schema@12.4.3 typescript@5` has run, then the files. It writes them as typed
// constants there, one a panel with the options of its type, and lets the compiler judge.

import { execFileSync } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";

const [dir, ...files] = process.argv.slice(2);
const NAMES = {
  barchart: "BarChart", gauge: "Gauge", heatmap: "Heatmap", piechart: "PieChart", stat: "Stat",
  table: "Table", text: "Text", timeseries: "TimeSeries", trend: "Trend",
};
const imports = Object.entries(NAMES).map(
  ([type, name]) => `import type * as ${type} from "@grafana/schema/dist/esm/raw/composable/${type}/panelcfg/x/${name}PanelCfg_types.gen";`,
);
let source = `${imports.join("\n")}
import type { Dashboard, FieldConfig, Panel, VariableModel } from "@grafana/schema";

// JSON has an enum's text, which the compiler does not take for the enum.
type Plain<T> = T extends string ? (string extends T ? string : \`\${T}\`)
  : T extends boolean | number | null | undefined ? T
  : T extends (infer U)[] ? Plain<U>[]
  : T extends object ? { [K in keyof T]: Plain<T[K]> } : T;
type Of<Type, Options, Custom> = Plain<Omit<Panel, "type" | "options" | "fieldConfig" | "targets">> & {
  type: Type;
  options: Plain<Options>;
  targets?: { refId: "A"; datasource: { type: string; uid: string }; format: "table" | "time_series";
              editorMode: "code"; rawQuery: true; rawSql: string }[];
  fieldConfig?: {
    defaults: Omit<Plain<FieldConfig>, "custom"> & { custom?: Partial<Plain<Custom>> };
    overrides: { matcher: { id: "byName"; options: string };
                 properties: { id: keyof FieldConfig | \`custom.\${keyof Custom & string}\`; value: unknown }[] }[];
  };
};
`;
const quoted = (value) => JSON.stringify(value, null, 1);
const constant = (type, value) => (source += `{ const it: ${type} = ${quoted(value)}; void it; }\n`);

for (const file of files) {
  const { panels, templating, ...dashboard } = JSON.parse(readFileSync(file, "utf8"));
  source += `// ${file}\n`;
  constant(`Plain<Dashboard>`, dashboard);
  for (const panel of panels) {
    const custom = ["stat", "gauge", "text"].includes(panel.type) ? "{}" : `${panel.type}.FieldConfig`;
    constant(`Of<"${panel.type}", ${panel.type}.Options, ${custom}>`, panel);
  }
  // Grafana writes a variable's definition itself; its types do not know it.
  for (const { definition, ...variable } of templating.list) {
    constant(`Plain<VariableModel>`, variable);
  }
}

writeFileSync(join(dir, "dashboards.ts"), source);
const options = "--noEmit --strict --skipLibCheck --module preserve --moduleResolution bundler".split(" ");
execFileSync(process.execPath, [join(dir, "node_modules/typescript/bin/tsc"), ...options, "dashboards.ts"], { cwd: dir, stdio: "inherit" });
console.log(`${files.length} dashboards are as Grafana's types have them`);
