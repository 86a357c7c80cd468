package udp

import (
	"context"
	"fmt"
	"net"
	"slices"
	"time"
)

// pollInterval is how often the interfaces are looked at where the system does
// not tell of changes, as the reference does it everywhere
// (docs/spec/udx.md §4).
const pollInterval = 5 * time.Second

// watchPolling compares the interfaces every pollInterval. Its goroutine ends
// with the context.
func watchPolling(ctx context.Context, look func() []string) <-chan struct{} {
	out := make(chan struct{}, 1)
	old := look()
	go func() {
		defer close(out)
		poll(ctx, out, old, look)
	}()
	return out
}

func poll(ctx context.Context, out chan<- struct{}, old []string, look func() []string) {
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if now := look(); !slices.Equal(now, old) {
			old = now
			notify(out)
		}
	}
}

// notify leaves a value in c unless one is there already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// interfaces describes what this machine's network looks like: a line for each
// interface that is up and for each of its addresses, sorted.
func interfaces() []string {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var out []string
	for _, i := range list {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		out = append(out, fmt.Sprint(i.Index, i.Name, i.HardwareAddr, i.Flags&net.FlagRunning))
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		for _, a := range addrs {
			out = append(out, fmt.Sprint(i.Index, a))
		}
	}
	slices.Sort(out)
	return out
}
