package main

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"
)

// A long-running command that is stopped while it still looks for the network has
// ended well; one that was to end by itself has failed, and says at what.
func TestInterruptedEarly(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		args   []string
		status int
	}{
		{[]string{"node"}, statusOK},
		{[]string{"listen"}, statusOK},
		{[]string{"listen", "--echo"}, statusOK},
		{[]string{"connect", keyHex, "--from=127.0.0.1:0"}, statusOK},
		{[]string{"relay"}, statusOK},
		{[]string{"announce", hex32}, statusOK},
		{[]string{"mainline", "node"}, statusOK},
		{[]string{"mainline", "announce", hex20}, statusOK},
		{[]string{"v1", "node"}, statusOK},
		{[]string{"connect", keyHex}, statusFailed},
		{[]string{"announce", hex32, "--once"}, statusFailed},
		{[]string{"mainline", "announce", hex20, "--once"}, statusFailed},
		{[]string{"v1", "query", "--command=x", "--target", hex32}, statusFailed},
		{[]string{"get", hex32}, statusFailed},
		{[]string{"put", "-"}, statusFailed},
		{[]string{"send", program}, statusFailed},
		{[]string{"receive", keyHex}, statusFailed},
		{[]string{"doctor"}, statusFailed},
		{[]string{"ping", "127.0.0.1:9"}, statusFailed},
		{[]string{"mainline", "ping", "127.0.0.1:9"}, statusFailed},
	} {
		args := append(tt.args, "--host=127.0.0.1")
		if !strings.Contains(strings.Join(tt.args, " "), "ping") {
			args = append(args, "--bootstrap=127.0.0.1:9") // nobody is there
		}
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancelCause(t.Context())
			time.AfterFunc(100*time.Millisecond, func() { cancel(errInterrupted) })
			silent, write := io.Pipe()
			defer write.Close()
			var out, errOut bytes.Buffer
			a := &app{stdin: silent, stdout: &out, stderr: &errOut}
			start := time.Now()
			status := a.run(ctx, args)
			if took := time.Since(start); status != tt.status || took > limit/2 {
				t.Errorf("status %d after %v: %s", status, took, &errOut)
			}
			says := strings.TrimSpace(errOut.String())
			if status == statusOK && says != "" {
				t.Errorf("says %s", says)
			}
			if status != statusOK && (!strings.HasSuffix(says, ": interrupted") || strings.Contains(says, "\n") || strings.Count(says, ": ") < 2) {
				t.Errorf("says %s", says)
			}
			if strings.Contains(out.String(), "FAILED") {
				t.Errorf("a verdict on an interrupted check: %s", &out)
			}
		})
	}
}
