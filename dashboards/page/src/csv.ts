/** What one sees, as a file. */

/** What a spreadsheet would run gets an apostrophe: devices say what they like. */
const safe = (text: string): string =>
  /^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d|\.\d)[\d.eE+-]*$/.test(text) ? `'${text}` : text;

const cell = (text: string): string =>
  /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;

export const csvOf = (rows: readonly (readonly string[])[]): string =>
  `${rows.map((row) => row.map((text) => cell(safe(text))).join(',')).join('\n')}\n`;

export function save(name: string, rows: readonly (readonly string[])[]): void {
  const url = URL.createObjectURL(new Blob([csvOf(rows)], { type: 'text/csv' }));
  const link = document.createElement('a');
  link.href = url;
  link.download = `headwater-${name.toLowerCase().replaceAll(/[^a-z0-9]+/g, '-')}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
