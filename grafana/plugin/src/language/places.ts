// Texts that were rewritten, and where a place of the new text stood in the old one: the server names places in what it was sent, and the
// editor shows what was written.

// Replaces the old text from `start` to `end`.
export interface Edit {
  start: number;
  end: number;
  by: string;
}

export interface Rewritten {
  text: string;
  // The offset in the old text of an offset in the new one. Inside of what was put in, it is the start of what was there.
  back: (offset: number) => number;
}

export function rewrite(old: string, edits: Edit[]): Rewritten {
  const sorted = [...edits].sort((a, b) => a.start - b.start);
  let text = '';
  let read = 0;
  const marks: Array<{ from: number; to: number; edit: Edit }> = [];
  for (const edit of sorted) {
    text += old.slice(read, edit.start);
    marks.push({ from: text.length, to: text.length + edit.by.length, edit });
    text += edit.by;
    read = edit.end;
  }
  text += old.slice(read);
  const back = (offset: number) => {
    let moved = 0;
    for (const { from, to, edit } of marks) {
      if (offset < from) {
        break;
      }
      if (offset < to) {
        return edit.start;
      }
      moved = edit.end - to;
    }
    return offset + moved;
  };
  return { text, back };
}

// Lines and columns count from 1, columns in characters, as the server counts.
export interface Place {
  line: number;
  column: number;
}

export function offsetOf(text: string, { line, column }: Place): number {
  const lines = text.split('\n');
  const before = lines.slice(0, line - 1).reduce((sum, one) => sum + one.length + 1, 0);
  const characters = [...(lines[line - 1] ?? '')];
  return Math.min(text.length, before + characters.slice(0, column - 1).join('').length);
}

export function placeOf(text: string, offset: number): Place {
  const lines = text.slice(0, offset).split('\n');
  const last = lines[lines.length - 1] ?? '';
  return { line: lines.length, column: [...last].length + 1 };
}
