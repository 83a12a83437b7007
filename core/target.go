package core

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Target is the address of one upstream. Requests never change it: paths and headers are not joined into it.
type Target struct {
	Given      string // the text it was parsed from
	Scheme     string // "http", "https" or "unix"
	Network    string // "tcp" or "unix"
	Host       string // for the Host header: host[:port] as given, IPv6 in brackets
	Address    string // host:port to dial, the port is the scheme's if none was given; or the path of a socket
	ServerName string // the name a certificate must carry: lower case, no trailing dot, no port
	TLS        bool
	key        string // equal for targets that mean the same upstream
}

// parseTargets parses the targets of a field, in order. It refuses two spellings of one upstream; seen are those that
// there are already. The error is a *ConfigError.
func parseTargets(field string, given []string, seen map[string]string) ([]Target, error) {
	targets := make([]Target, 0, len(given))
	for i, text := range given {
		target, err := ParseTarget(text)
		if err != nil {
			return nil, &ConfigError{Field: field, Message: fmt.Sprintf("%s[%d]: %s", field, i, err)}
		}
		if other, found := seen[target.key]; found {
			return nil, &ConfigError{
				Field:   field,
				Message: fmt.Sprintf("%s[%d]: %s is the same upstream as %s", field, i, quote(text), quote(other)),
			}
		}
		seen[target.key] = text
		targets = append(targets, target)
	}
	return targets, nil
}

// ParseTarget parses scheme://host[:port] (RFC 3986 section 3), strictly: what it takes has one meaning only. The
// scheme is http or https, and http if there is none ("server1:8080"). The host is a DNS name in ASCII (underscores
// pass, containers have them), a dotted IPv4 or a bracketed IPv6 address. One "/" may follow; a path would have to
// be joined with that of each request, so it is refused, as are user information, query and fragment. The error is
// a *ConfigError for the field "targets"; it never shows a password.
func ParseTarget(given string) (Target, error) {
	target := Target{Given: given, Scheme: "http", Network: "tcp"}
	fail := func(reason string) (Target, error) {
		return Target{}, &ConfigError{Field: "targets", Message: quote(hideUserinfo(given)) + " is not a usable URL: " + reason}
	}
	if given == "" {
		return fail("it is empty")
	}
	for i := range len(given) {
		switch c := given[i]; {
		case c <= ' ' || c == 0x7f:
			return fail(fmt.Sprintf("it has a blank or control character at position %d", i))
		case c > 0x7f:
			return fail(fmt.Sprintf("it has a non-ASCII character at position %d; write the name in its xn-- form", i))
		}
	}
	if path, found := cutScheme(given, "unix:"); found {
		path, reason := socketPath(path)
		if reason != "" {
			return fail(reason)
		}
		target.Scheme, target.Network, target.Host, target.Address = "unix", "unix", "localhost", path
		target.key = "unix:" + path
		return target, nil
	}
	rest := given
	if scheme, after, found := strings.Cut(given, "://"); found && isScheme(scheme) {
		target.Scheme, rest = strings.ToLower(scheme), after
		if target.Scheme != "http" && target.Scheme != "https" {
			return fail("its scheme must be http, https or unix")
		}
	} else if strings.HasPrefix(given, "//") {
		return fail("it starts with // and has no scheme; start it with http:// or https://")
	}
	target.TLS = target.Scheme == "https"

	authority, tail := rest, ""
	if end := strings.IndexAny(rest, "/?#"); end >= 0 {
		authority, tail = rest[:end], rest[end:]
	}
	if strings.Contains(authority, "@") {
		return fail("it has user information; send an Authorization header instead")
	}
	host, port, reason := splitAuthority(authority)
	if reason != "" {
		return fail(reason)
	}
	switch {
	case strings.Contains(tail, "#"):
		return fail("it has a fragment")
	case strings.Contains(tail, "?"):
		return fail("it has a query")
	case tail != "" && tail != "/":
		return fail("it has a path; put the path into each request")
	}
	switch {
	case port != "":
	case target.TLS:
		port = "443"
	default:
		port = "80"
	}
	target.Host = authority
	target.Address = net.JoinHostPort(host, port)
	target.ServerName = strings.ToLower(strings.TrimSuffix(host, "."))
	canonical := strings.ToLower(host)
	if parsed, err := netip.ParseAddr(host); err == nil {
		canonical = parsed.String() // ::1 and 0:0:0:0:0:0:0:1 are one address
	}
	target.key = target.Scheme + "://" + net.JoinHostPort(canonical, port)
	return target, nil
}

// cutScheme is strings.CutPrefix for a scheme, which has no case.
func cutScheme(text, scheme string) (rest string, found bool) {
	if len(text) < len(scheme) || !strings.EqualFold(text[:len(scheme)], scheme) {
		return text, false
	}
	return text[len(scheme):], true
}

// maxSocketPath is the longest path of a unix socket: sun_path has 108 bytes on Linux and 104 on macOS, with a NUL.
const maxSocketPath = 103

// socketPath takes what stands behind "unix:": /path or ///path.
func socketPath(text string) (path, reason string) {
	path = text
	if strings.HasPrefix(path, "///") {
		path = path[2:]
	}
	switch {
	case !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//"):
		return "", "the path of its socket must start with one /, as in unix:/run/app.sock"
	case strings.HasSuffix(path, "/"):
		return "", "the path of its socket ends with a /"
	case len(path) > maxSocketPath:
		return "", fmt.Sprintf("the path of its socket is longer than %d bytes", maxSocketPath)
	}
	return path, ""
}

// isScheme reports whether text may stand before "://" (RFC 3986 section 3.1).
func isScheme(text string) bool {
	for i := range len(text) {
		switch c := text[i] | 0x20; {
		case 'a' <= c && c <= 'z':
		case i > 0 && (isDigit(text[i]) || strings.IndexByte("+-.", text[i]) >= 0):
		default:
			return false
		}
	}
	return text != ""
}

// splitAuthority splits host[:port] and checks both; reason says what is wrong. port is empty if none was given.
func splitAuthority(authority string) (host, port, reason string) {
	if inside, bracketed := strings.CutPrefix(authority, "["); bracketed {
		address, after, closed := strings.Cut(inside, "]")
		if !closed {
			return "", "", "its IPv6 address has no closing bracket"
		}
		if strings.Contains(address, "%") {
			return "", "", "its IPv6 address has a zone, which is not supported"
		}
		if parsed, err := netip.ParseAddr(address); err != nil || !parsed.Is6() {
			return "", "", "what stands in brackets is not an IPv6 address"
		}
		if after == "" {
			return address, "", ""
		}
		port, found := strings.CutPrefix(after, ":")
		if !found {
			return "", "", "only a port may follow the closing bracket"
		}
		return address, port, checkPort(port)
	}
	host, port, found := strings.Cut(authority, ":")
	if strings.Contains(port, ":") {
		return "", "", "an IPv6 address must stand in brackets"
	}
	if reason := checkHost(host); reason != "" {
		return "", "", reason
	}
	if found {
		reason = checkPort(port)
	}
	return host, port, reason
}

// checkPort takes decimal digits without leading zeros, 1 to 65535.
func checkPort(port string) string {
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil || number == 0 || port[0] == '0' {
		return "its port must be a number from 1 to 65535"
	}
	return ""
}

// checkHost takes a DNS name in ASCII or an IPv4 address.
func checkHost(host string) string {
	name := strings.TrimSuffix(host, ".")
	if name == "" {
		return "it has no host"
	}
	if len(name) > 253 {
		return "its host is longer than 253 characters"
	}
	for i := range len(name) {
		c := name[i]
		if lower := c | 0x20; !isDigit(c) && ('a' > lower || lower > 'z') && c != '-' && c != '.' && c != '_' {
			return "its host has the character " + quote(string(rune(c)))
		}
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 {
			return "its host has a part that is empty or longer than 63 characters"
		}
	}
	// 127.1, 2130706433 and 0x7f.1 are addresses to some resolvers and names to others.
	if isNumber(labels[len(labels)-1]) {
		if parsed, err := netip.ParseAddr(host); err != nil || !parsed.Is4() {
			return "its host ends in a number but is not an IPv4 address of four decimal numbers"
		}
	}
	return ""
}

// isNumber reports whether a resolver might read the label as a number: 127, 0x7f.
func isNumber(label string) bool {
	if len(label) >= 2 && label[0] == '0' && label[1]|0x20 == 'x' {
		return strings.Trim(label[2:], "0123456789abcdefABCDEF") == ""
	}
	return strings.Trim(label, "0123456789") == ""
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }

// hideUserinfo removes what may be a password before text is shown.
func hideUserinfo(text string) string {
	end := strings.LastIndexByte(text, '@')
	if end < 0 {
		return text
	}
	start := 0
	if scheme, _, found := strings.Cut(text[:end], "://"); found {
		start = len(scheme) + 3
	}
	return text[:start] + "***" + text[end:]
}
