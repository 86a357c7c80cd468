package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// Exit statuses (docs/cli.md).
const (
	statusOK     = 0
	statusFailed = 1 // the operation failed
	statusUsage  = 2
)

// An app is one run of the program: its streams, and the flags that every
// command has.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer

	json     bool
	z32      bool
	logLevel string
	log      *slog.Logger

	registry *prometheus.Registry // of --metrics; nil without

	data bool // stdout carries data, so events go to stderr

	mu     sync.Mutex              // one line at a time
	outErr error                   // why results could not be written, the first time
	cancel context.CancelCauseFunc // ends the run
}

// A usageError is about what was typed: nothing has been done yet.
type usageError struct{ err error }

func (e usageError) Error() string { return e.err.Error() }
func (e usageError) Unwrap() error { return e.err }

// usage returns an error about what was typed. The text names the flag or
// argument.
func usage(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// run carries out the command and returns the exit status.
func (a *app) run(ctx context.Context, args []string) int {
	start := time.Now()
	ctx, a.cancel = context.WithCancelCause(ctx)
	defer a.cancel(nil)
	root := a.rootCommand()
	root.SetArgs(joinWords(args))
	root.SetIn(a.stdin)
	root.SetOut(lockedWriter{a, a.stdout})
	root.SetErr(lockedWriter{a, a.stderr})
	err := root.ExecuteContext(ctx)
	if lost := a.lost(); lost != nil {
		err = lost // whatever else: nobody has got the results
	}
	if err == nil {
		return statusOK
	}
	a.fail(err, time.Since(start), a.json || wantsJSON(args))
	if errors.As(err, new(usageError)) {
		return statusUsage
	}
	return statusFailed
}

// fail says on one line of stderr why the command failed.
func (a *app) fail(err error, took time.Duration, asJSON bool) {
	text := strings.Join(strings.Fields(strings.ReplaceAll(err.Error(), "\n", "; ")), " ")
	if asJSON {
		a.writeAs(a.stderr, jsonLine(struct {
			Error string `json:"error"`
			Ms    millis `json:"ms"`
		}{text, ms(took)}), true)
		return
	}
	a.write(a.stderr, "warren: "+text+"\n")
}

// wantsJSON looks for --json where the flags could not be read to the end.
func wantsJSON(args []string) bool {
	for _, arg := range args {
		switch arg {
		case "--json", "--json=true":
			return true
		case "--":
			return false
		}
	}
	return false
}

// result prints a result: the value as a JSON object under --json, else the
// text.
func (a *app) result(v any, format string, args ...any) { a.print(a.stdout, v, format, args...) }

// event prints something that happened, as result does; to stderr where stdout
// carries data.
func (a *app) event(v any, format string, args ...any) {
	w := a.stdout
	if a.data {
		w = a.stderr
	}
	a.print(w, v, format, args...)
}

func (a *app) print(w io.Writer, v any, format string, args ...any) {
	line := ""
	if a.json {
		line = jsonLine(v)
	} else {
		line = fmt.Sprintf(format, args...) + "\n"
	}
	a.write(w, line)
}

// write writes a line; everything that is not the data of a connection or a file
// goes through it. On a terminal the line is escaped: it may hold what strangers
// sent. If it is a result that cannot be written, the command ends gracefully: its
// output has no reader.
func (a *app) write(w io.Writer, line string) error { return a.writeAs(w, line, a.json) }

func (a *app) writeAs(w io.Writer, line string, isJSON bool) error {
	if isTerminal(w) {
		line = escape(line, isJSON)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	_, err := io.WriteString(w, line)
	if err != nil && w == a.stdout && a.outErr == nil {
		a.outErr = err
		a.cancel(err)
	}
	return err
}

// lost is why results could not be written; nil if all were.
func (a *app) lost() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.outErr
}

// progress tells a person what goes on; nobody else sees it.
func (a *app) progress(format string, args ...any) {
	if !a.json && isTerminal(a.stderr) {
		a.write(a.stderr, fmt.Sprintf(format, args...)+"\n")
	}
}

func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func jsonLine(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return string(b) + "\n"
}

// millis is a duration in milliseconds, as JSON shows it.
type millis float64

func ms(d time.Duration) millis { return millis(d.Round(time.Microsecond)) / millis(time.Millisecond) }

// mayBeEmpty are the flags whose empty value means something.
var mayBeEmpty = map[string]bool{"value": true, "value-hex": true, "salt": true}

// setUp settles the flags that every command has. It refuses empty ones: a script
// whose variable is not set must not end up in the public network, with a key
// that nobody knows, or open to everybody.
func (a *app) setUp(cmd *cobra.Command, _ []string) error {
	var empty error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		if s := f.Value.String(); (s == "" || s == "[]") && !mayBeEmpty[f.Name] {
			empty = usage("--%s: its value is empty; leave the flag out if it shall have none", f.Name)
		}
	})
	if empty != nil {
		return empty
	}
	var level slog.Level
	switch a.logLevel {
	case "debug", "info", "warn", "error":
		level.UnmarshalText([]byte(a.logLevel)) // one of the four
	default:
		return usage("--log-level: %q is not debug, info, warn or error", a.logLevel)
	}
	options := &slog.HandlerOptions{Level: level}
	out := lockedWriter{a, a.stderr}
	if a.json {
		a.log = slog.New(slog.NewJSONHandler(out, options))
	} else {
		a.log = slog.New(slog.NewTextHandler(out, options))
	}
	return nil
}

// A lockedWriter is stdout or stderr, shared with the results and events.
type lockedWriter struct {
	a *app
	w io.Writer
}

func (w lockedWriter) Write(b []byte) (int, error) {
	if err := w.a.write(w.w, string(b)); err != nil {
		return 0, err
	}
	return len(b), nil
}

// untilStopped is the end of a long-running command: a signal ends it well.
func untilStopped(ctx context.Context) error {
	<-ctx.Done()
	if interrupted(ctx) {
		return nil
	}
	return context.Cause(ctx)
}
