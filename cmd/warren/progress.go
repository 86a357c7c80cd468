package main

import (
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
)

// colours tells whether stderr may be coloured and animated.
func (a *app) colours() bool {
	return !a.json && isTerminal(a.stderr) && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
}

// spin shows that something goes on, to people, until the function is called.
func (a *app) spin(what string) (done func()) {
	if !a.colours() {
		a.progress("%s ...", what)
		return func() {}
	}
	bar := progressbar.NewOptions(-1,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSpinnerType(14),
		progressbar.OptionClearOnFinish())
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				bar.Add(1)
			case <-stop:
				bar.Finish()
				return
			}
		}
	}()
	return func() { close(stop); <-ended }
}

// transfer is a bar for size bytes, -1 if that is not known; a silent one
// where nobody watches.
func (a *app) transfer(what string, size int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetDescription(what),
		progressbar.OptionSetWriter(a.stderr),
		progressbar.OptionSetVisibility(a.colours()),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionFullWidth(),
		progressbar.OptionUseANSICodes(true),
		progressbar.OptionClearOnFinish())
}
