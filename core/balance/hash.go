package balance

// HashKey hashes a key for consistent_hash: a header's or cookie's value, a client's address. The result depends on
// nothing but the key, so all processes and versions agree on it; hash/maphash has another seed in every process.
//
// It is 64-bit FNV-1a, which is four lines and fast for keys of some ten bytes, followed by a finaliser: the last byte
// of FNV-1a does not reach the upper bits, and "user-1", "user-2" would be neighbours. It is not keyed. A client that
// chooses its own keys can choose the member that serves it; the bound on the load limits what that is good for.
//
// Source: draft-eastlake-fnv-21.
func HashKey(key []byte) uint64 {
	const offset, prime = 0xcbf29ce484222325, 0x100000001b3
	hash := uint64(offset)
	for _, b := range key {
		hash = (hash ^ uint64(b)) * prime
	}
	return mix(hash)
}

// mix is the finaliser of MurmurHash3 in David Stafford's variant 13, as in SplitMix64 (Steele, Lea, Flood, 2014). It
// is a bijection in which each bit of the input changes each bit of the output with a probability near one half.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}
