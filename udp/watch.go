package udp

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

// pollInterval is how often interfaces are looked at where the system does not
// tell of changes, as the reference does it everywhere (docs/spec/udx.md §4).
const pollInterval = 5 * time.Second

// watchPolling compares the list of addresses every pollInterval. Its goroutine
// ends with the context.
func watchPolling(ctx context.Context, addrs func() ([]netip.Addr, error)) <-chan struct{} {
	out := make(chan struct{}, 1)
	old := sorted(addrs)
	go func() {
		defer close(out)
		tick := time.NewTicker(pollInterval)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			if now := sorted(addrs); !slices.Equal(now, old) {
				old = now
				notify(out)
			}
		}
	}()
	return out
}

// notify leaves a value in c unless one is there already.
func notify(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func sorted(addrs func() ([]netip.Addr, error)) []netip.Addr {
	list, _ := addrs()
	slices.SortFunc(list, netip.Addr.Compare)
	return list
}
