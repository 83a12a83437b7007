package core

import (
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestServerNameIsTheHostOfACertificate(t *testing.T) {
	for given, name := range map[string]string{
		"https://Example.COM":        "example.com",
		"https://example.com.:8443/": "example.com",
		"https://[2001:DB8::1]:8443": "2001:db8::1",
		"https://127.0.0.1":          "127.0.0.1",
	} {
		target, err := ParseTarget(given)
		require.NoError(t, err)
		assert.Equal(t, name, target.ServerName, "%s", given)
		assert.True(t, target.TLS)
	}
}

func TestTargetErrorsHidePasswords(t *testing.T) {
	for _, given := range []string{
		"http://user:secret@host", "user:secret@host", "http://user:se/secret@host", "http://a:secret@b@c",
		"http://user:secret @host", "ftp://user:secret@host", "http://user:secr\u00e9t-secret@host?q",
	} {
		_, err := ParseTarget(given)
		require.Error(t, err)
		assert.NotContains(t, err.Error(), "secret", "%q", given)
		assert.Contains(t, err.Error(), "***@", "%q", given)
	}
}

func TestTargetErrorsAreBoundedAndPrintable(t *testing.T) {
	_, err := ParseTarget("http://" + strings.Repeat("a", 100_000) + "\x1b[31m")
	require.Error(t, err)
	assert.Less(t, len(err.Error()), 400)
	_, err = ParseTarget("http://a\x1b[31m\u202e")
	require.Error(t, err)
	for _, c := range err.Error() {
		assert.True(t, ' ' <= c && c <= '~', "%q", c)
	}
}

func TestDuplicateTargetsAreFoundAmongMany(t *testing.T) {
	targets := make([]string, 10_001)
	for i := range targets {
		targets[i] = "http://host:" + strconv.Itoa(i+1)
	}
	targets[10_000] = "HOST:5000/"
	_, err := parseTargets("targets", targets, map[string]string{})
	assert.EqualError(t, err, `targets[10000]: "HOST:5000/" is the same upstream as "http://host:5000"`)
}

// checkTarget holds what must be true of every accepted target, whatever was given. net/url is the oracle.
func checkTarget(t require.TestingT, target Target) {
	withScheme := target.Given
	if !strings.Contains(withScheme, "://") {
		withScheme = "http://" + withScheme
	}
	parsed, err := url.Parse(withScheme)
	require.NoError(t, err)
	require.Equal(t, parsed.Scheme, target.Scheme)
	require.Equal(t, parsed.Host, target.Host)
	require.Nil(t, parsed.User)
	require.Contains(t, []string{"", "/"}, parsed.EscapedPath())
	require.Empty(t, parsed.RawQuery+parsed.Fragment)

	port := parsed.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[target.Scheme]
	}
	number, err := strconv.Atoi(port)
	require.NoError(t, err)
	require.True(t, 1 <= number && number <= 65535)
	if address, err := netip.ParseAddr(parsed.Hostname()); err == nil {
		dialled, err := netip.ParseAddrPort(target.Address)
		require.NoError(t, err)
		require.Equal(t, netip.AddrPortFrom(address, uint16(number)), dialled)
	} else {
		require.Equal(t, parsed.Hostname()+":"+port, target.Address)
	}
	for i := range len(target.Host) {
		require.True(t, '!' <= target.Host[i] && target.Host[i] <= '~')
	}
}

func TestAcceptedTargetsMeanWhatNetURLSays(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		part := rapid.SampledFrom([]string{
			"http", "https", "ftp", "://", ":", "/", "//", "@", "[", "]", "::1", "::", "1", "0", "127.0.0.1", ".", "a",
			"example.com", "?", "#", "%", "80", "8080", "65536", "0x7f", "-", "_", " ", "\n", "\\", "é", "A", "unix:",
		})
		given := strings.Join(rapid.SliceOfN(part, 1, 7).Draw(t, "parts"), "")
		target, err := ParseTarget(given)
		switch {
		case err != nil:
		case target.Network == "unix":
			require.True(t, strings.HasSuffix(given, target.Address) && target.Address[0] == '/')
		default:
			checkTarget(t, target)
		}
	})
}

func TestEveryPortOfEveryKindOfHostIsTaken(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		scheme := rapid.SampledFrom([]string{"", "http://", "https://", "Http://"}).Draw(t, "scheme")
		host := rapid.OneOf(
			rapid.StringMatching(`[a-zA-Z][a-zA-Z0-9_-]{0,30}(\.[a-z][a-z0-9-]{0,10}){0,3}\.?`),
			rapid.StringMatching(`(25[0-5]|1[0-9]{2}|[1-9]?[0-9])(\.(25[0-5]|1[0-9]{2}|[1-9]?[0-9])){3}`),
			rapid.StringMatching(`\[[0-9a-fA-F]{1,4}(:[0-9a-fA-F]{1,4}){7}\]`),
			rapid.StringMatching(`\[[0-9a-f]{0,4}::[0-9a-f]{1,4}\]`),
		).Draw(t, "host")
		port := strconv.Itoa(rapid.IntRange(1, 65535).Draw(t, "port"))
		target, err := ParseTarget(scheme + host + ":" + port)
		require.NoError(t, err)
		require.Equal(t, host+":"+port, target.Host)
		checkTarget(t, target)
	})
}

func FuzzParseTarget(f *testing.F) {
	for _, seed := range []string{
		"http://a", "https://[::1]:8443/", "server1:8080", "http://a@b", "http://a\\b", "//h", "http://127.1", "a:b://c",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, given string) {
		if target, err := ParseTarget(given); err == nil {
			checkTarget(t, target)
		}
	})
}
