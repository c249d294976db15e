// A query as text. Errors stand at their place while a person types; Ctrl+Enter runs.

import { css } from '@emotion/css';
import { GrafanaTheme2 } from '@grafana/data';
import { CodeEditor, Monaco, MonacoEditor, useStyles2 } from '@grafana/ui';
import React, { useEffect, useRef, useState } from 'react';

import { Cell } from '../answer';
import { Refused } from '../server';
import { attach, LANGUAGE, mark, register } from './language';

interface Props {
  text: string;
  onChange: (text: string) => void;
  onRun: (text: string) => void;
  // What is wrong with the text.
  check: (text: string) => Promise<Refused | undefined>;
  rowsOf: (statement: string) => Promise<Cell[][]>;
  variables: () => string[];
}

// The server is asked when a person has paused for so long.
const PAUSE_MS = 400;
const LINES_MIN = 3;
const LINES_MAX = 20;
const LINE_PX = 19;

export function Code(props: Props) {
  const { text, check } = props;
  const styles = useStyles2(stylesOf);
  const [editor, setEditor] = useState<{ editor: MonacoEditor; monaco: Monaco }>();
  const [refused, setRefused] = useState<Refused>();
  // Monaco keeps the handlers that it got first.
  const latest = useRef(props);
  useEffect(() => {
    latest.current = props;
  });
  const checking = useRef(check);
  useEffect(() => {
    checking.current = check;
  }, [check]);

  useEffect(() => {
    let stale = false;
    const timer = setTimeout(async () => {
      const found = text.trim() === '' ? undefined : await checking.current(text);
      if (!stale) {
        setRefused(found);
      }
    }, PAUSE_MS);
    return () => {
      stale = true;
      clearTimeout(timer);
    };
  }, [text]);

  useEffect(() => {
    if (editor !== undefined) {
      mark(editor.monaco, editor.editor, refused);
    }
  }, [editor, refused]);

  // The text comes back later than it was typed: what is this editor's own never goes into it again, or fast typing would fight with it.
  const [initial] = useState(text);
  const own = useRef([text]);
  useEffect(() => {
    const at = own.current.lastIndexOf(text);
    own.current = at < 0 ? [text] : own.current.slice(at);
    if (at < 0) {
      editor?.editor.setValue(text);
    }
  }, [editor, text]);
  const typed = (value: string) => {
    if (value !== own.current.at(-1)) {
      own.current.push(value);
      latest.current.onChange(value);
    }
  };

  const mounted = (mountedEditor: MonacoEditor, monaco: Monaco) => {
    attach(mountedEditor, {
      rowsOf: (statement) => latest.current.rowsOf(statement),
      variables: () => latest.current.variables(),
    });
    const run = () => latest.current.onRun(mountedEditor.getValue());
    mountedEditor.addCommand(monaco.KeyMod.CtrlCmd | monaco.KeyCode.Enter, run);
    mountedEditor.addCommand(monaco.KeyMod.Shift | monaco.KeyCode.Enter, run);
    setEditor({ editor: mountedEditor, monaco });
  };

  const lines = Math.min(LINES_MAX, Math.max(LINES_MIN, text.split('\n').length + 1));
  return (
    <div>
      <CodeEditor
        language={LANGUAGE}
        value={initial}
        height={lines * LINE_PX}
        showMiniMap={false}
        showLineNumbers={false}
        wordWrap
        monacoOptions={{
          fontSize: 14,
          scrollBeyondLastLine: false,
          quickSuggestions: true,
          wordBasedSuggestions: false,
        }}
        onBeforeEditorMount={register}
        onEditorDidMount={mounted}
        onChange={typed}
      />
      {refused !== undefined && (
        <div className={styles.problem} role="status" data-testid="waterclock-problem">
          {refused.sentence}
        </div>
      )}
    </div>
  );
}

const stylesOf = (theme: GrafanaTheme2) => ({
  problem: css({
    color: theme.colors.error.text,
    fontFamily: theme.typography.fontFamilyMonospace,
    fontSize: theme.typography.bodySmall.fontSize,
    padding: theme.spacing(0.5, 1),
  }),
});
