package core

import (
	"crypto/tls"
	"crypto/x509"
	"time"
)

// sessions is how many TLS sessions with one upstream are kept for resumption.
const sessions = 64

// tlsBase is what all targets have in common: it reads certificates and keys once. The error is a *ConfigError.
func (c *Config) tlsBase() (*tls.Config, error) {
	if c.TLSMinVersion != "1.2" && c.TLSMinVersion != "1.3" {
		return nil, mustBe("tls_min_version", quote(c.TLSMinVersion))
	}
	config := &tls.Config{
		ServerName:         c.TLSServerName,
		NextProtos:         []string{"http/1.1"},
		MinVersion:         tls.VersionTLS12,
		InsecureSkipVerify: c.TLSInsecure, //nolint:gosec // the caller's explicit wish
	}
	if c.TLSMinVersion == "1.3" {
		config.MinVersion = tls.VersionTLS13
	}
	if c.TLSServerName != "" {
		if reason := checkHost(c.TLSServerName); reason != "" {
			return nil, mustBe("tls_server_name", quote(c.TLSServerName)+": "+reason)
		}
	}
	if c.TLSCA != "" {
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM([]byte(c.TLSCA)) {
			return nil, mustBe("tls_ca", "text without one")
		}
	}
	if c.TLSCert != "" || c.TLSKey != "" {
		pair, err := tls.X509KeyPair([]byte(c.TLSCert), []byte(c.TLSKey))
		if err != nil {
			return nil, &ConfigError{Field: "tls_cert", Message: "tls_cert and tls_key cannot be used: " + err.Error()}
		}
		if pair.Leaf != nil && time.Now().After(pair.Leaf.NotAfter) {
			return nil, &ConfigError{Field: "tls_cert", Message: "tls_cert has expired on " + pair.Leaf.NotAfter.Format(time.DateOnly)}
		}
		config.Certificates = []tls.Certificate{pair}
	}
	return config, nil
}

// checkTLS refuses options of TLS for a target that is not https.
func (c *Config) checkTLS(target Target) error {
	if field := c.tlsField(); field != "" && !target.TLS {
		return &ConfigError{Field: field, Message: field + " needs https targets, " + quote(target.Given) + " is none"}
	}
	return nil
}

// tlsFor is how to speak TLS with a target: nil for one that is not https.
func tlsFor(target Target, base *tls.Config) *tls.Config {
	if !target.TLS {
		return nil
	}
	config := base.Clone()
	if config.ServerName == "" {
		config.ServerName = target.ServerName
	}
	config.ClientSessionCache = tls.NewLRUClientSessionCache(sessions)
	return config
}

// tlsField is the first option of TLS that was set, if one was.
func (c *Config) tlsField() string {
	switch {
	case c.TLSCA != "":
		return "tls_ca"
	case c.TLSCert != "":
		return "tls_cert"
	case c.TLSKey != "":
		return "tls_key"
	case c.TLSServerName != "":
		return "tls_server_name"
	case c.TLSInsecure:
		return "tls_insecure"
	}
	return ""
}
