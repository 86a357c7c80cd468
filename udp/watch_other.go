//go:build !linux

package udp

import "context"

func watch(ctx context.Context) <-chan struct{} { return watchPolling(ctx, interfaces) }
