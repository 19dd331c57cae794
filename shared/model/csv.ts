/** Cells of CSV (RFC 4180). Names and texts come from devices, and a spreadsheet runs what looks like a formula. */

/** What a spreadsheet would run: =, +, -, @, also behind a tab or CR; a number is none. */
const isFormula = (text: string): boolean =>
  /^[=+\-@\t\r]/.test(text) && !/^[+-]?(\d|\.\d)[\d.eE+-]*$/.test(text);

/** `isSpreadsheet`: a formula becomes a text by an apostrophe, which other readers see. */
export function csvCell(plain: string, isSpreadsheet: boolean): string {
  const text = isSpreadsheet && isFormula(plain) ? `'${plain}` : plain;
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
