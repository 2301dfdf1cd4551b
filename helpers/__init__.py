"""Private training and fairness of medical image classifiers, in seven wings."""
