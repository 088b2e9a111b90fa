-- Answers the names that may live, and the score of each as text: name, score, name, score, …

drop_expired(now_ms())
return redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES')
