"""Who moves traffic between two releases: the API itself, HAProxy, Argo Rollouts. One port, one module each."""
