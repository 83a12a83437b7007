package core

import "github.com/velithon/velithon-proxy/core/h1"

// Panics is how many were caught where there was no call to tell of them.
func Panics() uint64 { return h1.Panics.Load() }
